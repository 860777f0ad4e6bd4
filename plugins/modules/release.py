#!/usr/bin/python
"""Unpack directory trees as releases and switch `current` to them. The action plugin sends them."""

from __future__ import annotations

DOCUMENTATION = """
module: release
short_description: Publish directory trees of the control machine as releases
version_added: 0.1.0
description:
  - Sends each O(trees) entry as C(DESTINATION/releases/ID) and points the symlink
    C(DESTINATION/current) at it in one atomic step.
  - The ID is made of the tree's content, so that the same code is never sent twice.
  - Python files are compiled for the target's interpreter, and the release is read-only for
    everybody but root.
options:
  trees:
    description: What to publish where.
    type: list
    elements: dict
    required: true
    suboptions:
      source:
        description: A directory on the control machine.
        type: path
        required: true
      destination:
        description: The directory on the target that holds C(releases/) and C(current).
        type: path
        required: true
      inside:
        description: Put the tree in a directory of this name inside the release.
        type: str
        default: ""
      validate:
        description: >-
          A command that the target runs on a new release, C(%s), before C(current) points at it.
          If it fails, nothing has changed.
        type: str
  keep:
    description: How many releases stay, the current one included.
    type: int
    default: 3
attributes:
  check_mode:
    support: full
    description: Says what would be published.
  diff_mode:
    support: full
    description: Shows which release C(current) points at, before and after.
author: the kechi.vps authors
"""

EXAMPLES = """
- name: Publish the blog
  kechi.vps.release:
    trees:
      - source: "{{ inventory_dir }}/../apps/blog"
        destination: /srv/www/blog
"""

RETURN = """
releases:
  description: The release that C(current) points at, for each destination.
  returned: always
  type: dict
switched:
  description: The destinations whose C(current) changed.
  returned: always
  type: list
  elements: str
"""

import compileall
import py_compile
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def release_name(digest: str) -> str:
    """A release holds compiled code, so that another interpreter needs another release."""
    return f"{digest}-{sys.implementation.cache_tag}"


def current(destination: Path) -> str:
    """The name of the release that `current` points at, "" where there is none."""
    link = destination / "current"
    return Path(link.readlink()).name if link.is_symlink() else ""


def unpack(archive: Path, digest: str, destination: Path, validate: Callable[[Path], None]) -> None:
    """Unpack, compile and validate beside the other releases, then name it in one step."""
    releases = destination / "releases"
    releases.mkdir(mode=0o755, parents=True, exist_ok=True)
    for leftover in releases.glob("*.part"):  # an earlier run was interrupted
        shutil.rmtree(leftover)
    part = releases / f"{release_name(digest)}.part"
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(part, filter="data")
        else:
            tar.extractall(part)  # noqa: S202 - the action plugin made the archive a moment ago
    part.chmod(0o755)
    compileall.compile_dir(
        part,
        quiet=2,
        stripdir=str(part),
        prependdir=str(releases / release_name(digest)),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    validate(part)
    part.rename(releases / release_name(digest))


def switch(destination: Path, name: str) -> None:
    """Point `current` at a release; whoever looks sees the old one or the new one."""
    link = destination / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("releases") / name)
    link.rename(destination / "current")


def prune(destination: Path, keep: int) -> None:
    """Remove the oldest releases; a generation that still runs may hold the previous one."""
    now = current(destination)
    releases = sorted(
        (path for path in (destination / "releases").iterdir() if path.name != now),
        key=lambda path: path.stat().st_ctime,
        reverse=True,
    )
    for path in releases[max(keep - 1, 0) :]:
        shutil.rmtree(path)


def _validator(module: AnsibleModule, command: str | None) -> Callable[[Path], None]:
    def validate(release: Path) -> None:
        if command:
            rc, out, err = module.run_command(command % release)
            if rc:
                module.fail_json(msg=f"the new release does not pass: {(err or out).strip()}")

    return validate


def main() -> None:
    """Asked twice: without archives what is missing, and with them to unpack and switch."""
    module = AnsibleModule(
        argument_spec={
            "trees": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "source": {"type": "path"},
                    "inside": {"type": "str", "default": ""},
                    "validate": {"type": "str"},
                    "destination": {"type": "path", "required": True},
                    "digest": {"type": "str"},
                    "archive": {"type": "path"},
                },
            },
            "keep": {"type": "int", "default": 3},
            "act": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    trees = module.params["trees"]
    before = {tree["destination"]: current(Path(tree["destination"])) for tree in trees}
    after = {tree["destination"]: release_name(tree["digest"]) for tree in trees}
    absent = [
        tree["destination"]
        for tree in trees
        if not Path(tree["destination"], "releases", after[tree["destination"]]).is_dir()
    ]
    switched = [destination for destination in after if before[destination] != after[destination]]
    if module.params["act"] and not module.check_mode:
        for tree in trees:
            destination = Path(tree["destination"])
            if tree["destination"] in absent:
                validate = _validator(module, tree["validate"])
                unpack(Path(tree["archive"]), tree["digest"], destination, validate)
            if tree["destination"] in switched:
                switch(destination, after[tree["destination"]])
                prune(destination, module.params["keep"])
    module.exit_json(
        changed=bool(switched),
        switched=switched,
        absent=absent,
        releases=after,
        diff=[
            {
                "before_header": f"{destination}/current",
                "after_header": f"{destination}/current",
                "before": f"{before[destination]}\n" if before[destination] else "",
                "after": f"{after[destination]}\n",
            }
            for destination in switched
        ],
    )


if __name__ == "__main__":
    main()
