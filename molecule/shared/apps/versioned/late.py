"""A part of the app that is imported with a request."""

VERSION = 1
