"""What the project claims, measured; each module prints a table."""
