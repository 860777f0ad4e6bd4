"""A lending library: Django with its admin, generic views and forms."""
