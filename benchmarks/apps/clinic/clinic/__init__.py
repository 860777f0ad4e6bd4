"""Appointments of a clinic: Django with plain views, a form and messages."""
