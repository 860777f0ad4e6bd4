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


@pytest.mark.parametrize("target", ["debian:11", "fedora:42", "testing"])
def test_a_release_without_an_image_is_refused(target: str) -> None:
    with pytest.raises(BuildError) as caught:
        wanted_releases({"KECHI_TARGET": target})
    known = "debian:12, debian:13, debian:testing"
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
