#!/usr/bin/python
"""Put together, for each pool, what is to run together. The action plugin renders the templates."""

from __future__ import annotations

DOCUMENTATION = """
module: release_sets
short_description: Write pools' release sets, without using them yet
version_added: 0.1.0
description:
  - A release set is C(/srv/kechi/POOL/sets/ID) - a symlink to each app's release and to the
    virtualenv, the pool file and the pool's own units. The ID is the digest of all of it.
  - M(kechi.vps.pool_state) switches a pool to one, and back.
options:
  sets:
    description: A set for each pool.
    type: list
    elements: dict
    required: true
    suboptions:
      pool:
        description: The pool.
        type: str
        required: true
      apps:
        description: The release's directory for each app.
        type: dict
        required: true
      virtualenv:
        description: The virtualenv, where the pool has one.
        type: path
      routes:
        description: Which socket the requests for which host go to, as the front end is to know it.
        type: dict
        default: {}
      static:
        description: >-
          The directories of static files of each app, as the front end is to know them. They are
          noted, and make no other set.
        type: dict
        default: {}
      files:
        description: The files, by their paths inside the set.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: C(pool.toml), or C(units/NAME).
            type: str
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
          group:
            description: Its group.
            type: str
            default: root
          mode:
            description: Its mode, in octal.
            type: str
            default: "0644"
          validate:
            description: A command that must succeed for the file, C(%s).
            type: str
  known:
    description: >-
      The apps that the inventory knows, whatever their state. A pool that serves another one is
      refused.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Says which sets would be written.
  diff_mode:
    support: full
    description: Shows the files and releases beside those of the set in use.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Put the pool together
  kechi.vps.release_sets:
    sets:
      - pool: main
        apps:
          blog: /srv/www/blog/releases/0123456789ab-cpython-311
        virtualenv: /srv/kechi/main/venvs/0123456789ab
        files:
          - path: pool.toml
            template: pool.toml.j2
"""

RETURN = """
sets:
  description: The ID of each pool's set.
  returned: always
  type: dict
restricted:
  description: Directories and files of sets that others could read or list, and can no more.
  returned: always
  type: list
  elements: str
written:
  description: The pools whose set was not there.
  returned: always
  type: list
  elements: str
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import environments, play_lock, release_sets, releases


def about(wanted: dict[str, Any]) -> dict[str, Any]:
    """What a set says of itself."""
    return {
        "apps": wanted["apps"],
        "virtualenv": wanted["virtualenv"] or "",
        "routes": wanted["routes"],
        "static": wanted["static"],
    }


def identity(wanted: dict[str, Any]) -> str:
    """The ID of a set."""
    files = {file["path"]: [file["content"], file["mode"]] for file in wanted["files"]}
    parts = about(wanted)
    del parts["static"]  # nginx serves them: a change in them is no reason to restart anything
    return release_sets.identity({**parts, "files": files})


def forgotten(sets: list[dict[str, Any]], known: list[str]) -> list[str]:
    """A sentence for each app that a pool serves and that nobody has said anything of."""
    return [
        f"pool {wanted['pool']}: it serves the app {app}, which the inventory does not have any"
        " more; to end that, give the app `state: absent` there"
        for wanted in sets
        for app in release_sets.Sets(wanted["pool"]).served
        if app not in known
    ]


def is_written(sets: release_sets.Sets, name: str, wanted: dict[str, Any]) -> bool:
    """Whether a set is there, whole, as it was written."""
    folder = sets.path(name)
    return sets.about(name) == about(wanted) and all(
        (folder / file["path"]).is_file()
        and (folder / file["path"]).read_text(encoding="utf-8") == file["content"]
        for file in wanted["files"]
    )


def write(
    module: AnsibleModule, sets: release_sets.Sets, name: str, wanted: dict[str, Any]
) -> None:
    """Write a set; what it says of itself comes last."""
    folder = sets.path(name)
    try:
        (folder / "units").mkdir(parents=True, exist_ok=True)
        sets.restrict()
        sets.link(name, wanted["apps"], wanted["virtualenv"])
        for file in wanted["files"]:
            _validate(module, sets, file)
            path, mode = folder / file["path"], int(file["mode"], 8)
            releases.write_atomically(path, file["content"], mode, file["group"])
        said = json.dumps(about(wanted), indent=1)
        releases.write_atomically(folder / release_sets.ABOUT, said, mode=0o600)
    except (OSError, releases.ReleaseError) as error:
        module.fail_json(msg=f"pool {sets.pool}: its release set can't be written: {error}")


def _validate(module: AnsibleModule, sets: release_sets.Sets, file: dict[str, Any]) -> None:
    if not file["validate"]:
        return
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", suffix=Path(file["path"]).suffix
    ) as new:
        new.write(file["content"])
        new.flush()
        rc, out, err = module.run_command(file["validate"] % new.name)
    if rc:
        module.fail_json(
            msg=f"pool {sets.pool}: {file['path']} would be wrong, and nothing has changed:"
            f" {err or out}"
        )


def diff(sets: release_sets.Sets, wanted: dict[str, Any]) -> list[dict[str, str]]:
    """The set's files and releases beside those in use, without the values of environments."""
    before = sets.active
    hidden = environments.Hidden(os.urandom(16))
    hiders = {
        release_sets.POOL_FILE: hidden.pool_file,
        f"units/{release_sets.DROP_IN}": hidden.unit,
        f"units/{environments.FILE}": hidden.file,
    }
    pairs = {"releases": (_listed(sets.about(before).get("apps", {})), _listed(wanted["apps"]))}
    for file in wanted["files"]:
        old = sets.path(before) / file["path"]
        texts = (
            old.read_text(encoding="utf-8") if before and old.is_file() else "",
            file["content"],
        )
        hide = hiders.get(file["path"], str)
        pairs[file["path"]] = (hide(texts[0]), hide(texts[1]))
    return [
        {
            "before_header": f"pool {sets.pool}: {name}",
            "after_header": f"pool {sets.pool}: {name}",
            "before": old,
            "after": new,
        }
        for name, (old, new) in pairs.items()
        if old != new
    ]


def _listed(apps: dict[str, str]) -> str:
    return "".join(f"{path}\n" for _, path in sorted(apps.items()))


def main() -> None:
    """Write what is not there."""
    module = AnsibleModule(
        argument_spec={
            "sets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "pool": {"type": "str", "required": True},
                    "apps": {"type": "dict", "required": True},
                    "virtualenv": {"type": "path"},
                    "routes": {"type": "dict", "default": {}},
                    "static": {"type": "dict", "default": {}},
                    "files": {
                        "type": "list",
                        "elements": "dict",
                        "default": [],
                        "options": {
                            "path": {"type": "str", "required": True},
                            "content": {"type": "str", "required": True},
                            "group": {"type": "str", "default": "root"},
                            "mode": {"type": "str", "default": "0644"},
                            "validate": {"type": "str"},
                        },
                    },
                },
            },
            "known": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    lost = forgotten(module.params["sets"], module.params["known"])
    if lost:
        module.fail_json(msg="\n".join(lost))
    play_lock.at_work(module)
    os.umask(0o022)
    names = {}
    written = []
    diffs = []
    restricted: list[str] = []
    for wanted in module.params["sets"]:
        sets = release_sets.Sets(wanted["pool"])
        name = names[sets.pool] = identity(wanted)
        restricted += map(str, sets.readable)
        if not is_written(sets, name, wanted):
            written.append(sets.pool)
            diffs += diff(sets, wanted)
            if not module.check_mode:
                write(module, sets, name, wanted)
        if not module.check_mode:
            sets.restrict()
    changed = bool(written or restricted)
    module.exit_json(
        changed=changed, sets=names, written=written, restricted=restricted, diff=diffs
    )


if __name__ == "__main__":
    main()
