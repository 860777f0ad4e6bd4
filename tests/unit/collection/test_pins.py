"""What is installed on a machine by Python's tools for us has a hash, whatever an index says."""

import importlib.metadata
import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.kechi.vps.plugins.module_utils import pins
from ansible_collections.kechi.vps.plugins.modules import virtualenvs

ROOT = Path(__file__).parents[3]
PIN = re.compile(r"(?<![\w.=-])([A-Za-z0-9][\w.-]*==[0-9][\w.]*)")
CODE = ("roles/*/defaults/*", "roles/*/vars/*", "roles/*/files/*", "roles/*/templates/*",
        "roles/*/tasks/*", "plugins/**/*.py", "playbooks/*")  # fmt: skip


def requirements(root):
    """What roles have installed, by their variables, and whatever else looks like a pin."""
    for file in sorted(root.glob("roles/*/defaults/main.yml")):
        for name, value in yaml.safe_load(file.read_text()).items():
            if name.endswith(("_requirements", "_requirement")):
                yield from [value] if isinstance(value, str) else value
    for pattern in CODE:
        for file in sorted(root.glob(pattern)):
            if file.is_file() and file.name != "pins.py":
                yield from PIN.findall(file.read_text())


def unpinned(root):
    return {one for one in requirements(root) if not pins.locked([one])}


def test_all_that_we_install_is_pinned_with_hashes():
    assert {"uv==0.13.9", "gunicorn==27.0.1"} <= set(requirements(ROOT))
    assert unpinned(ROOT) == set()


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        (
            "roles/a/defaults/main.yml",
            "a_requirements: [Jinja2==3.1.6, six==1.17.0]",
            "six==1.17.0",
        ),
        ("roles/a/defaults/main.yml", "a_tool_requirement: uv", "uv"),
        ("roles/a/templates/x.sh.j2", "pip install six==1.17.0", "six==1.17.0"),
        ("plugins/modules/x.py", 'RUN = ["pip", "gunicorn==27.0.2"]', "gunicorn==27.0.2"),
    ],
)
def test_a_pin_without_a_hash_is_found(tmp_path, file, text, found):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    assert unpinned(tmp_path) == {found}


def test_hashes_are_those_of_files():
    for pin, (_, hashes) in pins.LOCKED.items():
        assert hashes, pin
        assert all(re.fullmatch(r"[0-9a-f]{64}", one) for one in hashes), pin


@pytest.mark.parametrize("pin", [pin for pin in pins.LOCKED if not pin.startswith("uv==")])
def test_what_a_pin_needs_is_pinned_too(pin):
    name, _, version = pin.partition("==")
    assert importlib.metadata.version(name) == version, "requirements-dev.txt has another one"
    needed = {
        re.split(r"[^\w.-]", one)[0].lower()
        for one in importlib.metadata.requires(name) or []
        if "extra ==" not in one and "win32" not in one and "Windows" not in one
    }
    assert {one.partition("==")[0] for one in pins.LOCKED[pin][0]} == needed


def test_what_one_needs_comes_with_it_and_what_is_not_ours_is_left_to_others():
    (jinja, markup) = pins.locked(["Jinja2==3.1.6"])
    assert jinja.startswith("jinja2==3.1.6 --hash=sha256:")
    assert markup.startswith("markupsafe==")
    assert pins.locked(["Jinja2==3.1.6", "six==1.17.0"]) == []
    assert pins.locked(["gunicorn"]) == []


def test_ours_come_with_hashes_and_an_app_does_not_replace_them(tmp_path):
    release = tmp_path / "release"
    release.mkdir()
    (release / "requirements.txt").write_text("flask\n")
    own, lock = tmp_path / "own.txt", tmp_path / virtualenvs.OWN_PINS
    lock.write_text("")
    wanted = {"requirements": ["gunicorn==27.0.1"], "releases": [str(release)]}
    theirs = ["--requirement", f"{release}/requirements.txt"]
    ours = ["--require-hashes", "--requirement", str(lock)]
    assert virtualenvs.what(wanted, own) == [ours, ["--constraint", str(own), *theirs]]
    (release / "requirements.txt").write_text("flask==3 --hash=sha256:00\n")
    assert virtualenvs.what(wanted, own) == [ours, ["--require-hashes", *theirs]]
    assert virtualenvs.what({**wanted, "releases": []}, own) == [ours]
