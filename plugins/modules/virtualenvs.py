#!/usr/bin/python
"""Virtualenvs that hold what their requirement files ask for, made anew only when those change."""

from __future__ import annotations

DOCUMENTATION = """
module: virtualenvs
short_description: Make virtualenvs and install requirements into them
version_added: 0.1.0
description:
  - Each virtualenv carries a digest of its requirements and of the interpreter's version. Where it
    is right, nothing is run; the digest is written last, so that an interrupted run is repeated.
  - A virtualenv of another Python version (after an upgrade of the distribution) is made anew.
options:
  virtualenvs:
    description: The virtualenvs.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Its directory.
        type: path
        required: true
      requirements:
        description: Requirements, as pip takes them.
        type: list
        elements: str
        default: []
      files:
        description: Requirement files on the target.
        type: list
        elements: path
        default: []
attributes:
  check_mode:
    support: full
    description: Says which virtualenvs would be made or filled.
author: the kechi.vps authors
"""

EXAMPLES = """
- name: Make the pool's virtualenv
  kechi.vps.virtualenvs:
    virtualenvs:
      - path: /srv/kechi/main/venv
        requirements: [gunicorn]
        files: [/srv/www/blog/current/requirements.txt]
"""

RETURN = """
filled:
  description: The virtualenvs that were made or filled.
  returned: always
  type: list
  elements: str
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PYTHON = "/usr/bin/python3"
MARK = "kechi-requirements.digest"


def digest(requirements: list[str], contents: list[bytes]) -> str:
    """What a virtualenv's content depends on."""
    sum_ = hashlib.sha256(sys.version.encode())
    for content in [*(line.encode() for line in requirements), *contents]:
        sum_.update(f"{len(content)}\0".encode())
        sum_.update(content)
    return sum_.hexdigest()


def is_of_this_python(path: Path) -> bool:
    """Whether the virtualenv was made by this version of Python."""
    return (path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages").is_dir()


def fill(module: AnsibleModule, wanted: dict[str, Any], mark: str) -> None:
    """Make or repair one virtualenv; the mark comes last."""
    path = Path(wanted["path"])
    (path / MARK).unlink(missing_ok=True)
    if not is_of_this_python(path) or not (path / "bin" / "pip").exists():
        module.run_command([PYTHON, "-m", "venv", "--clear", str(path)], check_rc=True)
    command = [str(path / "bin" / "pip"), "install", "--quiet", "--no-input",
               "--disable-pip-version-check"]  # fmt: skip
    command += wanted["requirements"]
    for file in wanted["files"]:
        command += ["--requirement", file]
    if wanted["requirements"] or wanted["files"]:
        rc, out, err = module.run_command(command)
        if rc:
            module.fail_json(msg=f"{path}: pip could not install the requirements: {err or out}")
    (path / MARK).write_text(mark)


def main() -> None:
    """Compare the digests, fill what differs."""
    module = AnsibleModule(
        argument_spec={
            "virtualenvs": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "requirements": {"type": "list", "elements": "str", "default": []},
                    "files": {"type": "list", "elements": "path", "default": []},
                },
            }
        },
        supports_check_mode=True,
    )
    filled = []
    for wanted in module.params["virtualenvs"]:
        path = Path(wanted["path"])
        contents = [Path(f).read_bytes() for f in wanted["files"] if Path(f).is_file()]
        mark = digest(wanted["requirements"], contents)
        marked = path / MARK
        if marked.is_file() and marked.read_text() == mark and (path / "bin" / "python").exists():
            continue
        filled.append(str(path))
        if not module.check_mode:
            fill(module, wanted, mark)
    module.exit_json(changed=bool(filled), filled=filled)


if __name__ == "__main__":
    main()
