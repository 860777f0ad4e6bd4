#!/usr/bin/python
"""Unpack directory trees as releases, or find ones that are there. The action plugin sends them."""

from __future__ import annotations

DOCUMENTATION = """
module: release
short_description: Publish directory trees of the control machine as releases
version_added: 0.1.0
description:
  - Sends each O(trees) entry as C(DESTINATION/releases/ID), or finds one that is there.
  - The ID is made of the tree's content, so that the same code is never sent twice.
  - Python files are compiled for the target's interpreter, and the release is read-only for
    everybody but root.
  - C(DESTINATION/releases.json) says when each was deployed, and what it was made from. A
    destination without it that holds other things is refused.
options:
  trees:
    description:
      - What to publish where. One of O(trees[].source), O(trees[].git), O(trees[].archive),
        O(trees[].wheel) and O(trees[].release) is needed.
    type: list
    elements: dict
    required: true
    suboptions:
      destination:
        description: The directory on the target that holds C(releases/) and C(current).
        type: path
        required: true
      source:
        description: A directory on the control machine.
        type: path
      links_within:
        description: >-
          A directory that O(trees[].source) is in. Links of the tree to what is there are sent as
          that; without it none may lead out of the tree.
        type: path
      git:
        description: >-
          A git repository, as C(git clone) takes it. It is fetched on the control machine.
        type: str
      version:
        description: A branch, tag or commit of O(trees[].git).
        type: str
      archive:
        description: >-
          A C(.tar.gz) (or another tar) or C(.zip) file on the control machine. A directory that is
          alone at its top is left out.
        type: path
      wheel:
        description: A wheel on the control machine, for a virtualenv to install.
        type: path
      release:
        description: >-
          None of these, but a release that is there already, by its name or the begin of it;
          C(current), or C(previous), which is the one deployed before the current one.
        type: str
      inside:
        description: Put the tree in a directory of this name inside the release.
        type: str
        default: ""
      group:
        description: >-
          The group that alone may read the releases of this destination, besides root; everybody
          may where it is not given. The same code for another group is another release.
        type: str
        default: ""
      public:
        description: Directories inside the tree that everybody may read all the same.
        type: list
        elements: str
        default: []
      validate:
        description: >-
          A command that the target runs on a new release, C(%s), before it gets its name. If it
          fails, nothing has changed.
        type: str
  activate:
    description: >-
      Whether to point C(DESTINATION/current) at it in one atomic step, and to remove old releases.
      Apps are switched with their whole pool instead, by M(kechi.vps.pool_state).
    type: bool
    default: true
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
    description: Shows which release is current, before and after.
author: the kechi.vps authors (!UNKNOWN)
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
  description: The release that was published or found, for each destination.
  returned: always
  type: dict
restricted:
  description: The releases that others could read, and can no more; or that now can.
  returned: always
  type: list
  elements: str
switched:
  description: The destinations whose current release is another one.
  returned: always
  type: list
  elements: str
"""

import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import access, compiling, play_lock, releases


def release_name(digest: str) -> str:
    """A release holds compiled code, so that another interpreter needs another release."""
    return f"{digest}-{sys.implementation.cache_tag}"


def unpack(
    archive: Path,
    name: str,
    destination: Path,
    validate: Callable[[Path], None],
    finish: Callable[[Path], None],
) -> None:
    """Unpack, compile, validate and finish beside the other releases, then name it in one step.

    Nobody else reads it before. What does not come to its end, as on a full disk, leaves nothing.
    """
    folder = destination / "releases"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    for leftover in folder.glob("*.part"):  # an earlier run was interrupted
        shutil.rmtree(leftover)
    part = folder / f"{name}.part"
    try:
        part.mkdir(mode=access.ROOTS)
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(part, filter="data")
            else:
                tar.extractall(part)  # noqa: S202 - the action plugin made it a moment ago
        compiling.compile_tree(part, folder / name)
        validate(part)
        finish(part)
        part.rename(folder / name)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def name_for(group: str, name: str, record: releases.Record) -> str:
    """The name of a release for a group: the same code for another one has its own modes."""
    apart = f"{name}-{group}"
    others = record.get(name, {}).get("group", group) != group
    return apart if group and (others or apart in record) else name


def switch(destination: Path, name: str) -> None:
    """Point `current` at a release; whoever looks sees the old one or the new one."""
    releases.point(destination / releases.CURRENT, Path("releases") / name)


def _validator(module: AnsibleModule, command: str | None) -> Callable[[Path], None]:
    def validate(release: Path) -> None:
        if command:
            rc, out, err = module.run_command(command % release)
            if rc:
                module.fail_json(msg=f"the new release does not pass: {(err or out).strip()}")

    return validate


class Tree:
    """One entry of `trees`: which release it means, and whether that is there."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        self.destination = Path(wanted["destination"])
        releases.refuse_foreign(self.destination)
        self.before = releases.current(self.destination)
        self.group, self.public = wanted["group"], wanted["public"]
        record = releases.read(self.destination)
        if wanted["release"]:
            self.name = releases.choose(wanted["release"], record, self.before)
        else:
            self.name = name_for(self.group, release_name(wanted["digest"]), record)
        self.absent = not releases.present(self.destination, self.name)
        self.switched = self.name != self.before

    def publish(self, validate: Callable[[Path], None]) -> None:
        """Have it there, and note that it has been deployed; one that was chosen keeps its time."""
        if self.switched and not self.wanted["release"]:
            # first: what is not noted would never be removed
            self.destination.mkdir(parents=True, exist_ok=True)
            facts = {"deployed": time.time(), "origin": self.wanted["origin"]}
            releases.note(self.destination, self.name, **facts)
        if self.absent:
            archive = Path(self.wanted["archive"])
            unpack(archive, self.name, self.destination, validate, self._finish)
        for name, public in self.open.items():
            group = access.group_id(self.group)
            access.restrict(self.destination / "releases" / name, group, public)
            releases.note(self.destination, name, group=self.group, public=public)

    def _finish(self, part: Path) -> None:
        """Have a new release read by whom it is for."""
        if self.group:
            access.restrict(part, access.group_id(self.group), self.public)
        else:
            part.chmod(access.PUBLIC)

    @property
    def open(self) -> dict[str, list[str]]:
        """The releases that others read than should, each with its public directories.

        Those of another pool, which may have had the app and run it still, are left to that. What
        has been public stays so: nginx may serve it from there until the front end's turn.
        """
        found = {}
        for name, entry in releases.read(self.destination).items():
            if self.group and (name == self.name or entry.get("group", self.group) == self.group):
                public = sorted({*self.public, *entry.get("public", [])})
                if not self._is_restricted(name, entry, public):
                    found[name] = public
        return found

    def _is_restricted(self, name: str, entry: Mapping[str, Any], public: list[str]) -> bool:
        if (entry.get("group"), entry.get("public")) != (self.group, public):
            return False
        try:
            group = access.group_id(self.group)
        except access.AccessError:
            return False
        top = self.destination / "releases" / name
        return not access.differs(top, group, access.top_mode(public))

    @property
    def diff(self) -> dict[str, str]:
        """The current release before and after."""
        header = f"{self.destination}/{releases.CURRENT}"
        return {
            "before_header": header,
            "after_header": header,
            "before": f"{self.before}\n" if self.before else "",
            "after": f"{self.name}\n",
        }


def _found(module: AnsibleModule) -> list[Tree]:
    trees = []
    problems = []
    for wanted in module.params["trees"]:
        try:
            trees.append(Tree(wanted))
        except releases.ReleaseError as error:
            problems.append(f"{Path(wanted['destination']).name}: {error}")
    if problems:
        module.fail_json(msg="\n".join(problems))
    return trees


def main() -> None:
    """Asked twice: without archives what is missing, and with them to unpack and switch."""
    module = AnsibleModule(
        argument_spec={
            "trees": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "destination": {"type": "path", "required": True},
                    "release": {"type": "str"},
                    "inside": {"type": "str", "default": ""},
                    "group": {"type": "str", "default": ""},
                    "public": {"type": "list", "elements": "str", "default": []},
                    "validate": {"type": "str"},
                    # of the action plugin, which has made them of source, git, archive or wheel
                    "origin": {"type": "str", "default": ""},
                    "digest": {"type": "str"},
                    "archive": {"type": "path"},
                },
            },
            "activate": {"type": "bool", "default": True},
            "keep": {"type": "int", "default": 3},
            "act": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    play_lock.at_work(module)
    os.umask(0o022)
    trees = _found(module)
    restricted = [f"{tree.destination}/releases/{name}" for tree in trees for name in tree.open]
    if module.params["act"] and not module.check_mode:
        for tree in trees:
            try:
                tree.publish(_validator(module, tree.wanted["validate"]))
                if module.params["activate"] and tree.switched:
                    switch(tree.destination, tree.name)
                    releases.prune(tree.destination, module.params["keep"], ())
            except (OSError, releases.ReleaseError, access.AccessError) as error:
                module.fail_json(
                    msg=f"{tree.destination}: the release could not be published, and nothing"
                    f" else has changed: {error}"
                )
    switched = [tree for tree in trees if tree.switched]
    module.exit_json(
        changed=bool(switched or restricted) or any(tree.absent for tree in trees),
        restricted=restricted,
        switched=[tree.wanted["destination"] for tree in switched],
        absent=[tree.wanted["destination"] for tree in trees if tree.absent],
        releases={tree.wanted["destination"]: tree.name for tree in trees},
        diff=[tree.diff for tree in switched],
    )


if __name__ == "__main__":
    main()
