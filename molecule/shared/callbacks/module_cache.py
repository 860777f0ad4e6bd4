"""Keep what ansible-core makes of modules from one run of the tests' playbooks to the next.

A third of a short playbook's processor time goes into packing modules with all that they import.
ansible-core keeps the result in its temporary directory, for one run; here that is a link to a
directory of this checkout, whose name changes with all that goes in. ansible-core locks each file.
"""

from __future__ import annotations

DOCUMENTATION = """
name: module_cache
type: aggregate
short_description: Keep packed modules between runs
description:
  - Links ansible-core's cache of packed modules to a directory that stays, for the tests.
"""

import hashlib
import shutil
import sys
import time
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__

COLLECTION = Path("ansible_collections", "kechi", "vps", "plugins")
SOURCES = ("modules", "module_utils")
NAME = "ansiballz_cache"  # as module_common.py of ansible-core has it
KEPT_SECONDS = 86_400.0


class CallbackModule(CallbackBase):
    """Does so before the first task; what it can't do costs time alone."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_cache"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, _playbook: object) -> None:
        """Link the cache of this run to the one that stays."""
        home = Path(constants.config.get_config_value("ANSIBLE_HOME")).expanduser()
        plugins = Path(constants.config.get_config_value("COLLECTIONS_PATHS")[0]) / COLLECTION
        kept = home / "kechi" / "modules" / key(plugins)
        kept.mkdir(parents=True, exist_ok=True)
        kept.touch()
        forget(kept.parent, time.time() - KEPT_SECONDS)
        (Path(constants.DEFAULT_LOCAL_TMP) / NAME).symlink_to(kept)


def key(plugins: Path) -> str:
    """What changes with all that goes into a packed module."""
    found = hashlib.sha256(f"{__version__} {sys.version}".encode())
    for folder in SOURCES:
        for file in sorted((plugins / folder).rglob("*.py")):
            found.update(f"{file.relative_to(plugins)} {file.stat().st_size}\n".encode())
            found.update(file.read_bytes())
    return found.hexdigest()[:16]


def forget(folder: Path, before: float) -> None:
    """Remove the caches that no run has begun with since a time of day."""
    for cache in folder.iterdir():
        if cache.stat().st_mtime < before:
            shutil.rmtree(cache, ignore_errors=True)
