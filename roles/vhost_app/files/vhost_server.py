"""What the virtualenv's bin/vhost_server is made of: its first line names the interpreter."""

import os
import sys

sys.path.insert(0, os.path.realpath("/usr/local/lib/kechi/current"))
from supervisor_py.vhost.cli import main

sys.exit(main())
