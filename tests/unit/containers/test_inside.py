"""Containers entered without their engine: only the right one, and only while it runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from containers import inside


@pytest.fixture
def asked(tmp_path):
    """An engine that notes how often it is asked, and answers with this very process."""
    engine = tmp_path / "engine"
    engine.write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\necho {os.getpid()}\n")
    engine.chmod(0o755)
    return engine


def times(asked):
    return len((asked.parent / "asked").read_text().splitlines())


def test_the_engine_is_asked_once_while_the_container_runs(asked, tmp_path):
    for _ in range(2):
        assert inside.first_process(str(asked), "web", tmp_path / "cache") == os.getpid()
    assert times(asked) == 1


@pytest.mark.parametrize("change", [{"started": 1}, {"pid": 4_194_305}, {"started": 0}])
def test_another_process_of_that_number_is_not_taken_for_the_container(asked, tmp_path, change):
    cache = tmp_path / "cache"
    inside.first_process(str(asked), "web", cache)
    file = cache / "web.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert inside.first_process(str(asked), "web", cache) == os.getpid()
    assert times(asked) == 2


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": 1'])
def test_a_note_that_is_cut_off_is_made_anew(asked, tmp_path, text):
    (tmp_path / "web.json").write_text(text)
    assert inside.first_process(str(asked), "web", tmp_path) == os.getpid()


def test_a_container_that_is_not_there_has_no_process(tmp_path):
    assert inside.first_process("false", "web", tmp_path) == 0
    assert inside.environment(4_194_305) == {}


def test_a_process_that_has_ended_and_was_not_waited_for_is_gone():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert inside.started(ended.pid) == 0
    ended.wait()
    assert inside.started(os.getpid()) > 0


def test_a_command_gets_the_containers_environment_and_not_ours(monkeypatch):
    command = inside.enter(7, ["/bin/sh", "-c", "true"], {"container": "podman", "HOME": "/root"})
    assert command[:3] == ["nsenter", "--target=7", "--all"]
    assert command[3:] == ["env", "--ignore-environment", "container=podman", "HOME=/root",
                           "/bin/sh", "-c", "true"]  # fmt: skip
    monkeypatch.setenv("OURS", "1")
    shown = subprocess.run([*command[3:5], "env"], capture_output=True, text=True, check=True)
    assert "OURS" not in shown.stdout


def test_only_root_enters_and_only_what_podman_has_made(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/nsenter")
    assert inside.usable("podman")
    assert not inside.usable("docker")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not inside.usable("podman")


def test_a_container_is_entered_with_its_own_environment_or_left_to_its_engine(
    asked, tmp_path, monkeypatch
):
    def spelled() -> list[str]:
        return inside.command(str(asked), "web", ["/bin/true"], tmp_path / "cache")

    monkeypatch.setattr(inside, "usable", lambda _: True)
    monkeypatch.setattr(inside, "environment", lambda _: {"container": "podman"})
    assert spelled() == inside.enter(os.getpid(), ["/bin/true"], {"container": "podman"})
    monkeypatch.setattr(inside, "environment", lambda _: {"HOME": "/root"})
    assert spelled() == [], "it is no container, or has ended"
    monkeypatch.setattr(inside, "environment", lambda _: {"container": "podman"})
    monkeypatch.setattr(inside, "usable", lambda _: False)
    assert spelled() == [], "only its engine gets in"
