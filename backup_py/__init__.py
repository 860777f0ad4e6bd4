"""Backs up and restores the persistent files of apps: the command kechi_backup.

Runs on the VPS, from the standard library; restic does what leaves the machine.
"""
