"""Root gives directories inside `shared` their owner and mode, and follows no link of the app's."""

from __future__ import annotations

import grp
import json
import os
import pwd
import time

import pytest
from ansible.module_utils import basic

from ansible_collections.kechi.vps.plugins.modules import files

from .attacker import UID, as_the_app, swapping

ROUNDS = 300


class RefusedError(Exception):
    """The module has ended with a message."""


@pytest.fixture
def effects(monkeypatch):
    arguments = {"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": "/tmp"}}
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    module = basic.AnsibleModule(argument_spec={}, supports_check_mode=True)

    def fail(msg, **_more):
        raise RefusedError(msg)

    monkeypatch.setattr(module, "fail_json", fail)
    known = pwd.struct_passwd(("kechi-evil", "x", UID, UID, "", "/nonexistent", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", {"kechi-evil": known, "root": pwd.getpwuid(0)}.__getitem__)
    return files.Files(module)


def wanted(path, mode="2750"):
    return {"path": str(path), "owner": "kechi-evil", "group": grp.getgrgid(0).gr_name,
            "mode": mode, "attributes": None}  # fmt: skip


def test_a_directory_inside_shared_is_made_and_is_the_apps(effects, machine):
    for path in (machine.shared / "deep", machine.shared / "deep/thumbs"):
        assert effects.directory(wanted(path))
        info = path.stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (UID, 0, 0o2750)
        assert not effects.directory(wanted(path)), "a second run changes nothing"


@pytest.mark.parametrize("name", ["media", "deep/thumbs", "deep/deeper/secret"])
def test_a_link_in_its_place_or_on_the_way_is_refused_by_name(effects, machine, name):
    first = machine.shared / name.split("/")[0]
    target = machine.neighbour if "thumbs" in name else machine.victim
    as_the_app(lambda: first.symlink_to(target))
    with pytest.raises(RefusedError, match=f"{name}: .*link.*nothing was followed"):
        effects.directory(wanted(machine.shared / name))


def test_a_link_is_refused_in_check_mode_too(effects, machine):
    effects.module.check_mode = True
    as_the_app(lambda: (machine.shared / "media").symlink_to(machine.victim))
    with pytest.raises(RefusedError, match="nothing was followed"):
        effects.directory(wanted(machine.shared / "media"))


@pytest.mark.parametrize("kind", ["fifo", "file"])
def test_what_is_no_directory_is_refused_and_not_waited_for(effects, machine, kind):
    path = machine.shared / "media"
    as_the_app(lambda: os.mkfifo(path) if kind == "fifo" else path.touch())
    with pytest.raises(RefusedError, match="media: media is not a directory"):
        effects.directory(wanted(path))


@pytest.mark.parametrize("deep", [False, True])
def test_a_directory_that_is_swapped_for_a_link_while_root_works_leads_nowhere(
    effects, machine, deep
):
    (machine.shared / "a").mkdir()
    (machine.shared / "a/thumbs").mkdir()
    os.chown(machine.shared / "a", UID, UID)
    target = machine.neighbour if deep else machine.neighbour / "thumbs"
    as_the_app(lambda: (machine.shared / "b").symlink_to(target))
    asked = machine.shared / ("a/thumbs" if deep else "a")
    refused = done = 0
    # more, should the swaps have fallen out one-sided: a busy machine
    ends = time.monotonic() + 60
    with swapping(machine.shared / "a", machine.shared / "b"):
        while (done < ROUNDS or not refused) and time.monotonic() < ends:
            try:
                effects.directory(wanted(asked, mode=("2750", "2700")[done % 2]))
            except RefusedError as error:
                assert "nothing was followed" in str(error) or "No such file" in str(error)  # noqa: PT017
                refused += 1
            done += 1
    assert refused, "the link was never met: this has proved nothing"


def test_a_file_is_written_only_where_root_alone_can_change_the_way_to_it(effects, machine):
    path = machine.shared / "limits.conf"
    file = {"path": str(path), "content": "x", "validate": None, "owner": "root", "group": "root",
            "mode": "0644"}  # fmt: skip
    with pytest.raises(RefusedError, match="others than root can change the directory"):
        effects.file(file)
    with pytest.raises(RefusedError, match="others than root can change the directory"):
        effects.absent(str(path))
    assert effects.file({**file, "path": str(machine.app / "limits.conf")})
