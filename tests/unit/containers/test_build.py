"""Which base an image is made from, and when it is current."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import vms.build
from containers import build
from containers.build import (
    ROOT,
    BuildError,
    content_key,
    image,
    preinstalled_requirements,
    source,
    wanted_releases,
)
from containers.engine import Plan
from containers.machines import Machine, of_target
from containers.trust import extra_certificates


def pem(body: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("root", "mmdebstrap", "expected"),
    [
        (True, True, "mirror"),
        (False, True, "registry"),
        (True, False, "registry"),
        (False, False, "registry"),
    ],
)
def test_the_base_comes_from_a_mirror_where_that_is_possible(
    root: bool, mmdebstrap: bool, expected: str
) -> None:
    assert source({}, root=root, mmdebstrap=mmdebstrap) == expected


def test_the_environment_overrides_where_the_base_comes_from() -> None:
    assert source({"KECHI_BASE_FROM": "registry"}, root=True, mmdebstrap=True) == "registry"
    assert source({"KECHI_BASE_FROM": "mirror"}, root=False, mmdebstrap=True) == "mirror"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("disk", 'KECHI_BASE_FROM="disk" is not one of: registry, mirror'),
        ("mirror", "no mmdebstrap on PATH: sudo apt-get install mmdebstrap"),
    ],
)
def test_an_impossible_base_is_refused(wanted: str, message: str) -> None:
    with pytest.raises(BuildError) as caught:
        source({"KECHI_BASE_FROM": wanted}, root=True, mmdebstrap=False)
    assert str(caught.value) == message


def test_images_are_built_of_the_releases_that_inventories_name_or_of_one_for_all() -> None:
    assert wanted_releases({}) == ["12", "13"]
    assert wanted_releases({"KECHI_TARGET": ""}) == ["12", "13"]
    assert wanted_releases({"KECHI_TARGET": "debian:testing"}) == ["testing"]
    assert wanted_releases({"KECHI_TARGET": "ubuntu:24.04"}) == ["ubuntu:24.04"]


@pytest.mark.parametrize("release", build.SUITES)
def test_a_machine_of_a_target_has_the_image_that_is_built_for_it(release: str) -> None:
    target = build.target(release)
    assert wanted_releases({"KECHI_TARGET": target}) == [release]
    for name in (build.image, build.preinstalled_image):
        machine = of_target(Machine("vps", name("12"), "net"), {"KECHI_TARGET": target})
        assert machine.image == name(release)


def commands_of(
    release: str, monkeypatch: pytest.MonkeyPatch, base_from: str, fault: str = ""
) -> list[list[str]]:
    """What is run to build one release, of which mmdebstrap may fail."""
    ran: list[list[str]] = []

    def run(command: list[str]) -> None:
        ran.append(command)
        if fault and "mmdebstrap" in command:
            raise BuildError(fault)

    monkeypatch.setattr(build, "_run", run)
    monkeypatch.setattr(build.Builder, "_key_of", lambda *_words: None)
    plan = Plan("podman", ("podman",), (), (), (), ca_bundle=None)
    build.Builder(plan, base_from, "2026-W49").build(release, preinstalled=False)
    return ran


def test_ubuntus_base_is_made_from_its_own_mirror_or_pulled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(build, "KEYRINGS", {"ubuntu:24.04": keyring})
    made = commands_of("ubuntu:24.04", monkeypatch, "mirror")
    assert made[0][-2] == "noble"
    assert "--components=main,universe" in made[0]
    assert made[1][-1] == "localhost/kechi-base:ubuntu-24.04"
    assert "--tag=localhost/kechi-ubuntu:24.04" in made[2]
    pulled = commands_of("ubuntu:24.04", monkeypatch, "registry")
    assert pulled[0] == ["podman", "pull", "docker.io/library/ubuntu:24.04"]
    assert commands_of("12", monkeypatch, "registry")[0][-1] == "docker.io/library/debian:12"


@pytest.mark.parametrize("has_keyring", [True, False])
def test_where_ubuntus_mirror_is_of_no_use_that_is_told_with_what_else_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_keyring: bool
) -> None:
    keyring = tmp_path / "keyring.gpg"
    if has_keyring:
        keyring.touch()
    monkeypatch.setattr(build, "KEYRINGS", {"ubuntu:24.04": keyring})
    with pytest.raises(BuildError) as caught:
        commands_of("ubuntu:24.04", monkeypatch, "mirror", "E: apt-get update failed")
    said = str(caught.value)
    assert "set KECHI_BASE_FROM=registry" in said
    assert ("apt-get update failed" in said) is has_keyring
    assert (f"no {keyring}, by which" in said) is not has_keyring


@pytest.mark.parametrize("target", ["debian:11", "ubuntu:22.04", "fedora:42", "testing"])
def test_a_release_without_an_image_is_refused(target: str) -> None:
    with pytest.raises(BuildError) as caught:
        wanted_releases({"KECHI_TARGET": target})
    known = "debian:12, debian:13, debian:testing, ubuntu:24.04"
    assert str(caught.value) == f'KECHI_TARGET="{target}" is not one of: {known}'


def test_an_image_is_current_only_while_all_its_parts_are() -> None:
    key = content_key([b"recipe", b"authorities", b"week"])
    assert key == content_key([b"recipe", b"authorities", b"week"])
    assert key != content_key([b"recipe", b"authorities", b"next week"])
    assert key != content_key([b"recipea", b"uthorities", b"week"])


def test_only_authorities_that_debian_does_not_have_are_added() -> None:
    bundle = "# a comment\n" + pem("AAAA") + pem("PROXY") + pem("BBBB")
    assert extra_certificates(bundle, pem("BBBB") + pem("AAAA")) == [pem("PROXY")]


def test_an_authority_is_added_once_and_known_however_its_lines_are_wrapped() -> None:
    assert extra_certificates(pem("PRO\nXY") + pem("PROXY"), pem("AAAA")) == [pem("PRO\nXY")]
    assert extra_certificates(pem("AA\nAA"), pem("AAAA")) == []


def test_no_bundle_adds_nothing() -> None:
    assert extra_certificates("", pem("AAAA")) == []


@pytest.mark.parametrize("run", [lambda *words: build._run([*words]), vms.build._run])
def test_what_goes_into_an_image_is_not_private_because_it_is_here(
    tmp_path: Path, run: Callable[..., None]
) -> None:
    before = os.umask(0o077)
    try:
        run("touch", str(tmp_path / "file"))
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_preinstalled_machine_has_what_the_roles_and_the_examples_ask_for() -> None:
    wanted = preinstalled_requirements()["requirements.txt"].splitlines()
    pools = yaml.safe_load((ROOT / "roles/vhost_app/defaults/main.yml").read_text())
    assert set(pools["vhost_app_server_requirements"]) <= set(wanted)
    for example in ("blog", "notes"):
        assert set((ROOT / "examples" / example / "requirements.txt").read_text().split()) <= set(
            wanted
        )
    assert preinstalled_requirements()["uv.txt"].strip() == pools["vhost_app_uv_requirement"]


@pytest.mark.parametrize("scenario", ["default", "host"])
def test_a_scenario_that_shows_what_the_roles_install_begins_bare_on_each_release(
    scenario: str,
) -> None:
    inventory = (ROOT / "molecule" / scenario / "inventory" / "hosts.yml").read_text()
    machines = yaml.safe_load(inventory)["containers"]["hosts"].values()
    assert {machine["container_image"] for machine in machines} == {image("12"), image("13")}
