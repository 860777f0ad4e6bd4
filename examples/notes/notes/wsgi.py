"""The WSGI entry point, notes.wsgi:application, with a database that is up to date."""

import os

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notes.settings")
application = get_wsgi_application()
call_command("migrate", interactive=False, verbosity=0)
connections.close_all()  # a connection must not be shared by forked processes
