"""The WSGI entry point: blog.wsgi:application."""

from . import create_app

application = create_app()
