"""A shelf of goods that its owner fills by the admin: a small Django project."""
