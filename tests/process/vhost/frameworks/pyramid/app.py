"""Pyramid: the app is made by a package's main(), as its scaffolds have it."""

from site_ import main

app = main({})
