"""Virtualenvs by the digest of what is in them; a real one is made of a wheel, without an index."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from unittest.mock import MagicMock

import pytest

from ansible_collections.kechi.vps.plugins.modules import virtualenvs


def make(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return str(folder)


def of(release):
    contents = [path.read_bytes() for path in virtualenvs.ingredients([release])]
    return virtualenvs.digest(["gunicorn"], contents)


def test_a_virtualenv_is_another_one_for_other_requirements_and_included_ones(tmp_path):
    one = make(tmp_path / "1", {"requirements.txt": "-r base.txt\n", "base.txt": "flask\n"})
    seen = {of(one), of(make(tmp_path / "2", {"app.py": ""}))}
    assert len(seen) == 2
    for name, text in [
        ("base.txt", "-c limits.txt\nflask\n"),
        ("limits.txt", "flask<3\n"),
        (".wheel/app-1.whl", "x"),
    ]:
        make(tmp_path / "1", {name: text})
        assert of(one) not in seen
        seen.add(of(one))
    make(tmp_path / "1", {"app.py": "other code"})
    assert of(one) in seen


def test_files_that_include_each_other_come_to_an_end(tmp_path):
    release = make(tmp_path, {"requirements.txt": "-r b.txt", "b.txt": "-r requirements.txt"})
    assert len(virtualenvs.ingredients([release])) == 2


def test_what_is_installed_is_each_releases_requirements_and_wheel(tmp_path):
    one = make(tmp_path / "1", {"requirements.txt": "flask"})
    two = make(tmp_path / "2", {".wheel/app-1.whl": "x"})
    found = virtualenvs.what({"requirements": ["gunicorn"], "releases": [one, two]})
    wheel = f"{two}/.wheel/app-1.whl"
    assert found == ["gunicorn", "--requirement", f"{one}/requirements.txt", wheel]


def test_an_index_of_pips_configuration_holds_for_uv(tmp_path):
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.example/simple\nextra-index-url =\n  https://a.example\n"
        "  https://b.example\n"
    )
    assert virtualenvs.index(str(tmp_path / "pip.conf")) == {
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
    }
    assert virtualenvs.index(str(tmp_path / "none")) == {}


def make_aged(folder, **ages):
    for name, age in ages.items():
        path = folder / name
        path.mkdir(parents=True)
        os.utime(path, (1000 - age, 1000 - age))


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_of_a_folder_stay_those_that_were_wanted_last_and_what_nobody_made_here(tmp_path):
    now, before, old = "b" * 12, "f" * 12, "a" * 12
    make_aged(tmp_path, **{now: 0, before: 1, old: 2, "theirs": 9})
    assert virtualenvs.prune(tmp_path / now, 2, check=True) == [tmp_path / old]
    assert left(tmp_path) == [old, now, before, "theirs"]
    assert virtualenvs.prune(tmp_path / now, 2, check=False) == [tmp_path / old]
    assert left(tmp_path) == [now, before, "theirs"]
    assert virtualenvs.prune(tmp_path / now, 2, check=False) == []


def test_a_virtualenv_that_is_wanted_again_is_not_the_next_to_go(tmp_path):
    again, between, new = "a" * 12, "b" * 12, "c" * 12
    make_aged(tmp_path, **{again: 2, between: 1})
    assert virtualenvs.prune(tmp_path / again, 2, check=False) == []
    make_aged(tmp_path, **{new: -1})
    assert virtualenvs.prune(tmp_path / new, 2, check=False) == [tmp_path / between]


def make_wheel(house):
    about = "kechi_tiny-1.0.dist-info"
    files = {
        "kechi_tiny.py": "VALUE = 1\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: kechi-tiny\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{about}/RECORD,,"]
    for name, text in files.items():
        sum_ = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        lines.append(f"{name},sha256={sum_.decode()},{len(text)}")
    house.mkdir()
    with zipfile.ZipFile(house / "kechi_tiny-1.0-py3-none-any.whl", "w") as packed:
        for name, text in {**files, f"{about}/RECORD": "\n".join(lines) + "\n"}.items():
            packed.writestr(name, text)


class FailedError(Exception):
    pass


class Module:
    """What of an AnsibleModule is used."""

    def __init__(self, **params):
        self.params = params

    def run_command(self, command, check_rc=False, environ_update=None):
        done = subprocess.run(command, capture_output=True, text=True, check=check_rc)
        return done.returncode, done.stdout, done.stderr

    def warn(self, text):
        raise AssertionError(text)

    def fail_json(self, msg):
        raise FailedError(msg)


@pytest.fixture
def module(tmp_path, monkeypatch):
    make_wheel(tmp_path / "house")
    monkeypatch.setattr(virtualenvs, "PYTHON", sys.executable)
    monkeypatch.setattr(virtualenvs, "TOOLS", tmp_path / "tools")
    scripts = {"say": "import kechi_tiny\nprint(kechi_tiny.VALUE)\n"}
    return Module(scripts=scripts, installer="uv", uv="uv", wheel_house=str(tmp_path / "house"))


def test_a_virtualenv_is_made_of_a_wheel_house_alone_and_compiled_by_pip_where_uv_is_not(
    tmp_path, module
):
    path = tmp_path / "venvs" / "abc"
    make(path, {"half": "of an interrupted run"})
    wanted = {"requirements": ["kechi-tiny==1.0"], "releases": []}
    virtualenvs.fill(module, virtualenvs.Installer(module), path, wanted)
    said = subprocess.run([path / "bin/say"], capture_output=True, text=True, check=True)
    assert said.stdout == "1\n"
    assert virtualenvs.is_whole(path)
    assert not (path / "half").exists()
    assert list(path.glob("lib/python*/site-packages/__pycache__/kechi_tiny.*.pyc"))


def test_a_requirement_that_is_not_in_the_wheel_house_fails_and_leaves_nothing(tmp_path, module):
    path = tmp_path / "main" / "venvs" / "abc"
    wanted = {"requirements": ["kechi-huge"], "releases": []}
    with pytest.raises(
        FailedError, match=r"(?s)main: the virtualenv could not be filled.*kechi-huge"
    ):
        virtualenvs.fill(module, virtualenvs.Installer(module), path, wanted)
    assert not path.exists()


def test_what_no_virtualenv_has_any_more_leaves_the_cache_when_one_is_made(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    for name in ("used", "old"):
        make(cache / "archive-v0" / name, {f"{name}/__init__.py": "", f"{name}/data.txt": name})
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "data.txt").hardlink_to(cache / "archive-v0/used/used/data.txt")
    monkeypatch.setattr(virtualenvs, "CACHE", cache)
    module = MagicMock(params={"wheel_house": None})
    installer = virtualenvs.Installer(module)
    installer.trim()
    assert len(list(cache.glob("*/*"))) == 2, "no virtualenv was made by uv"
    installer._has_uv = True
    installer.trim()
    assert [path.name for path in cache.glob("*/*")] == ["used"]
    ((command,), environment) = module.run_command.call_args
    assert command[1:3] == ["cache", "prune"]
    assert environment == {"environ_update": {"UV_CACHE_DIR": str(cache)}}
