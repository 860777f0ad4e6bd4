"""Notes on a board: a small Django project, of which many sites can be made."""
