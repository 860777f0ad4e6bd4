#!/usr/bin/python
"""Directories and small files, all in one call. The action plugin renders the templates."""

from __future__ import annotations

DOCUMENTATION = """
module: files
short_description: Have directories and rendered files, many in one call
version_added: 0.1.0
description:
  - Does what a loop of M(ansible.builtin.file) and M(ansible.builtin.template) does, and after it
    M(kechi.vps.unit_current), in one round trip for all of them.
options:
  directories:
    description: Directories, made before the files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory.
        type: path
        required: true
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, in octal.
        type: str
        default: "0755"
  files:
    description: Files. One of O(files[].content) and O(files[].template) is needed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: Its whole content.
        type: str
      template:
        description: A template of the role, rendered on the control machine.
        type: str
      item:
        description: What the template knows as C(item).
        type: raw
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, in octal.
        type: str
        default: "0644"
      validate:
        description: A command that must succeed for the file to be put in place; C(%s) is the new
          file.
        type: str
  absent:
    description: Files and symlinks that are removed, after the others were written.
    type: list
    elements: path
    default: []
  lock:
    description: >-
      The lock of a program that reads these files, by its name in C(module_utils/locks.py); what is
      under way there ends first.
    type: str
  known:
    description: >-
      The files of the machine, as M(kechi.vps.machine_facts) returns them. Where they show that all
      is as it should be, and there are no O(units), nobody is asked.
    type: dict
    default: {}
  units:
    description: Units that read these files, as M(kechi.vps.unit_current) takes them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The unit.
        type: str
        required: true
      paths:
        description: Files, and directories (their files, and whether one has gone).
        type: list
        elements: path
        required: true
      by:
        description: How the unit reads them.
        type: str
        choices: [restart, reload]
        required: true
attributes:
  check_mode:
    support: full
    description: Says what would change.
  diff_mode:
    support: full
    description: Shows each file before and after.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Set the environment
  kechi.vps.files:
    directories:
      - path: /etc/kechi/env
    files:
      - path: /etc/kechi/env/KILL_OLD_DELAY
        content: "15\\n"
      - path: /etc/systemd/system/kechi@.service
        template: kechi@.service.j2
"""

RETURN = """
paths:
  description: What was made, changed or removed.
  returned: always
  type: list
  elements: str
units:
  description: The units that were restarted or reloaded.
  returned: always
  type: list
  elements: str
"""

import errno
import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import locks, play_lock, safe_paths, units

ATTRIBUTES = {
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}


class Files:
    """The effects; each method says whether it changed something."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.diffs: list[dict[str, str]] = []

    def directory(self, wanted: dict[str, Any]) -> bool:
        """Have a directory with these attributes.

        It may be an app's, below one in which that app can put links at any time: what is changed
        is what was opened, and what was opened is no link of the app's.
        """
        path = Path(wanted["path"])
        try:
            try:
                fd, made = safe_paths.open_directory(str(path)), False
            except FileNotFoundError:
                self._diff(path, "", "a directory\n")
                if self.module.check_mode:
                    return True
                fd, made = safe_paths.open_directory(str(path), make=True), True
            try:
                return self._own(fd, wanted) or made
            finally:
                os.close(fd)
        except OSError as error:
            return self._refuse(path, error)

    def _own(self, fd: int, wanted: dict[str, Any]) -> bool:
        """Give an open directory its owner, group and mode."""
        try:
            owner = pwd.getpwnam(wanted["owner"]).pw_uid
            group = grp.getgrnam(wanted["group"]).gr_gid
            mode = int(wanted["mode"], 8)
        except (KeyError, ValueError) as error:
            if self.module.check_mode:  # a user that would have been made by now
                return True
            self.module.fail_json(msg=f"{wanted['path']}: {error}")
        found = os.fstat(fd)
        if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner, group, mode):
            return False
        if not self.module.check_mode:
            os.fchown(fd, owner, group)
            os.fchmod(fd, mode)
        return True

    def _refuse(self, path: Path, error: OSError) -> bool:
        advice = ""
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            advice = "; nothing was followed: see what it is, and move it away"
        self.module.fail_json(msg=f"{path}: {error.strerror}{advice}")
        return False

    def _require_ours(self, path: Path) -> None:
        """Refuse what others could put something in the place of."""
        if not safe_paths.is_ours_alone(str(path)):
            self.module.fail_json(
                msg=f"{path}: others than root can change the directory that it is in; allowed:"
                " files where root alone can write"
            )

    def file(self, wanted: dict[str, Any]) -> bool:
        """Have a file with this content and these attributes."""
        path = Path(wanted["path"])
        self._require_ours(path)
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        written = before != wanted["content"]
        if written:
            self._diff(path, before or "", wanted["content"])
            if self.module.check_mode:
                return True
            self._write(path, wanted["content"], wanted["validate"])
        return self._attributes(wanted) or written

    def absent(self, name: str) -> bool:
        """Have no such file."""
        path = Path(name)
        self._require_ours(path)
        if not path.is_symlink() and not path.exists():
            return False
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        self._diff(path, text or "there\n", "")
        if not self.module.check_mode:
            path.unlink()
        return True

    def _write(self, path: Path, content: str, validate: str | None) -> None:
        handle, name = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        if validate:
            rc, out, err = self.module.run_command(validate % name)
            if rc:
                self.module.fail_json(
                    msg=f"{path} would be wrong, and was not touched: {err or out}"
                )
        self.module.atomic_move(name, str(path))

    def _attributes(self, wanted: dict[str, Any]) -> bool:
        arguments = self.module.load_file_common_arguments(
            {**self.module.params, **wanted}, path=wanted["path"]
        )
        return bool(self.module.set_fs_attributes_if_different(arguments, changed=False))

    def _diff(self, path: Path, before: str, after: str) -> None:
        self.diffs.append(
            {
                "before_header": str(path),
                "after_header": str(path),
                "before": before,
                "after": after,
            }
        )


def main() -> None:
    """Directories first, then files, then the units that read them."""
    module = AnsibleModule(
        argument_spec={
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "mode": {"type": "str", "default": "0755"},
                    **ATTRIBUTES,
                },
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "str"},
                    **ATTRIBUTES,
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
            "lock": {"type": "str"},
            "known": {"type": "dict", "default": {}},
            "units": {"type": "list", "elements": "dict", "default": [], "options": units.OPTIONS},
        },
        supports_check_mode=True,
    )
    play_lock.at_work(module)
    if module.params["lock"] and not module.check_mode:
        locks.keep(module.params["lock"], "a play", tell=module.warn)
    os.umask(0o022)
    files = Files(module)
    changed = [item["path"] for item in module.params["directories"] if files.directory(item)]
    changed += [item["path"] for item in module.params["files"] if files.file(item)]
    changed += [path for path in module.params["absent"] if files.absent(path)]
    behind = units.bring_up_to_date(module, module.params["units"])
    module.exit_json(changed=bool(changed or behind), paths=changed, units=behind, diff=files.diffs)


if __name__ == "__main__":
    main()
