"""Steps of the Makefile."""
