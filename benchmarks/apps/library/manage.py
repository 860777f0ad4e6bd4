"""Django's commands for this project; `prepare` makes its database."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "library.settings")
    if sys.argv[1:] == ["prepare"]:
        execute_from_command_line([sys.argv[0], "migrate", "--run-syncdb", "--verbosity=0"])
        from library.models import prepare

        prepare()
    else:
        execute_from_command_line(sys.argv)
