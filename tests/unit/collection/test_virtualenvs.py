"""Virtualenvs by the digest of what is in them; a real one is made of a wheel, without an index."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from ansible_collections.kechi.vps.plugins.module_utils import building
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


@pytest.mark.parametrize("name", ["/proc/kmsg", "../outside.txt", "pkg/../../outside.txt", "link"])
def test_root_reads_no_file_outside_of_a_release_that_its_requirements_name(tmp_path, name):
    (tmp_path / "outside.txt").write_text("x")
    release = make(tmp_path / "1", {"requirements.txt": f"-r {name}\n", "pkg/app.py": ""})
    (tmp_path / "1" / "link").symlink_to(tmp_path / "outside.txt")
    assert virtualenvs.ingredients([release]) == [tmp_path / "1" / "requirements.txt"]


def test_what_is_installed_is_each_releases_requirements_and_wheel(tmp_path):
    one = make(tmp_path / "1", {"requirements.txt": "flask"})
    two = make(tmp_path / "2", {".wheel/app-1.whl": "x"})
    wanted = {"requirements": ["gunicorn"], "releases": [one, two]}
    (found,) = virtualenvs.what(wanted, tmp_path / "own.txt")
    wheel = f"{two}/.wheel/app-1.whl"
    own = ["--requirement", f"{tmp_path}/own.txt"]
    assert found == [*own, "--requirement", f"{one}/requirements.txt", wheel]
    assert virtualenvs.what({"requirements": [], "releases": []}, tmp_path / "own.txt") == []


def test_requirements_with_hashes_let_nothing_else_come_with_them(tmp_path):
    one = make(tmp_path / "1", {"requirements.txt": "flask==3 --hash=sha256:00"})
    two = make(tmp_path / "2", {"requirements.txt": "bottle"})
    own = tmp_path / "own.txt"
    calls = virtualenvs.what({"requirements": ["gunicorn"], "releases": [one]}, own)
    assert [words[0] for words in calls] == ["--requirement", "--require-hashes"]
    assert calls[1][1:] == ["--requirement", f"{one}/requirements.txt"]
    (mixed,) = virtualenvs.what({"requirements": ["gunicorn"], "releases": [one, two]}, own)
    assert "--require-hashes" not in mixed


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

    def warn(self, text):
        raise AssertionError(text)

    def fail_json(self, msg):
        raise FailedError(msg)


class Here(building.Builder):  # type: ignore[misc]
    """Runs programs as whoever runs the tests, and keeps what it was asked."""

    asked: ClassVar[list[tuple[list[str], list[Path], bool]]] = []  # emptied by the fixture

    def make_user(self):
        pass

    def own(self, folder):
        pass

    def disown(self, folder):
        pass

    @contextmanager
    def workshop(self, folder):
        yield

    def run(self, words, *, writable, environment=None, network=False, reader=None):
        self.asked.append((list(map(str, words)), list(writable), network))
        done = subprocess.run(words, capture_output=True, text=True, check=False,
                              env={**os.environ, **(environment or {})})  # fmt: skip
        if done.returncode:
            raise building.BuildError(done.stderr or done.stdout)


@pytest.fixture
def module(tmp_path, monkeypatch):
    make_wheel(tmp_path / "house")
    Here.asked.clear()
    monkeypatch.setattr(virtualenvs, "PYTHON", sys.executable)
    monkeypatch.setattr(virtualenvs, "TOOLS", tmp_path / "tools")
    monkeypatch.setattr(virtualenvs, "UV", tmp_path / "tools" / "bin" / "uv")
    scripts = {"say": "import kechi_tiny\nprint(kechi_tiny.VALUE)\n"}
    return Module(scripts=scripts, installer="uv", uv="uv", build="wheels-only",
                  wheel_house=str(tmp_path / "house"))  # fmt: skip


@pytest.fixture
def fill(module):
    def run(path, *requirements):
        installer = virtualenvs.Installer(module, Here(lambda *_: (0, "", ""), 100, 60))
        wanted = {"requirements": list(requirements), "releases": [], "group": "", "hidden": []}
        virtualenvs.fill(module, installer, path, wanted)

    return run


def test_a_virtualenv_is_made_of_a_wheel_house_alone_and_compiled_by_pip_where_uv_is_not(
    tmp_path, fill
):
    path = tmp_path / "main" / "venvs" / "abc"
    make(path, {"half": "of an interrupted run"})
    fill(path, "kechi-tiny==1.0")
    said = subprocess.run([path / "bin/say"], capture_output=True, text=True, check=True)
    assert said.stdout == "1\n"
    assert virtualenvs.is_whole(path)
    assert not (path / "half").exists()
    assert list(path.glob("lib/python*/site-packages/__pycache__/kechi_tiny.*.pyc"))


def test_installers_write_to_the_virtualenv_alone_and_have_a_network_only_to_install(
    tmp_path, fill
):
    path = tmp_path / "main" / "venvs" / "abc"
    fill(path, "kechi-tiny==1.0")
    for words, writable, network in Here.asked:
        assert writable == [tmp_path / "tools" if str(path) not in " ".join(words) else path]
        assert network == ("install" in words)
    install = next(words for words, *_ in Here.asked if "install" in words and "uv" not in words)
    assert "--only-binary=:all:" in install


def test_a_requirement_that_is_not_in_the_wheel_house_fails_and_leaves_nothing(tmp_path, fill):
    path = tmp_path / "main" / "venvs" / "abc"
    with pytest.raises(
        FailedError, match=r"(?s)main: the virtualenv could not be filled.*kechi-huge"
    ):
        fill(path, "kechi-huge")
    assert not path.exists()


class Owning(Here):
    """Keeps who was given what."""

    given: ClassVar[list[tuple[str, str]]] = []

    def own(self, folder):
        self.given.append(("kechi-build", folder.name))

    def disown(self, folder):
        self.given.append(("root", folder.name))


def test_a_cache_of_builds_is_their_users_only_while_one_builds(tmp_path, module, monkeypatch):
    """All builds have one user: those of another pool must not read it."""
    monkeypatch.setattr(virtualenvs, "CACHE", tmp_path / "builds")
    (tmp_path / "builds" / "left").mkdir(parents=True)
    Owning.given.clear()
    installer = virtualenvs.Installer(module, Owning(lambda *_: (0, "", ""), 100, 60))

    def fail():
        with installer._cache(tmp_path / "main" / "venvs" / "abc") as cache:
            assert cache.stat().st_mode & 0o777 == 0o700
            assert ("root", "left") in Owning.given, "what a run that was cut off has left"
            assert Owning.given[-1] == ("kechi-build", cache.name)
            raise building.BuildError("no compiler")

    with pytest.raises(building.BuildError):
        fail()
    assert Owning.given[-1][0] == "root"
    assert Owning.given[-1][1] == Owning.given[-2][1]


def test_equal_files_of_virtualenvs_are_one_and_no_link_is_followed_to_find_them(tmp_path):
    secret = make(tmp_path / "secret", {"same.py": "x = 1\n"})
    old, new = tmp_path / "old", tmp_path / "new"
    files = {"lib/same.py": "x = 1\n", "lib/other.py": "x = 1\n", "empty.py": ""}
    make(old, {**files, "lib/other.py": "x = 2\n", "lib/link.py": "x = 1\n"})
    make(new, {**files, "away/same.py": "x = 1\n", "lib/file.py": "x = 1\n"})
    (new / "lib" / "link.py").symlink_to("same.py")
    (old / "lib" / "file.py").symlink_to(f"{secret}/same.py")
    (old / "away").symlink_to(secret)
    virtualenvs.link_equal_files(new, old)
    assert (new / "lib/same.py").samefile(old / "lib/same.py")
    assert (new / "lib/other.py").read_text() == "x = 1\n"
    for name in ("lib/other.py", "lib/file.py", "away/same.py", "empty.py"):
        assert (new / name).stat().st_nlink == 1, name
    assert (new / "lib/link.py").is_symlink()
    assert not list(new.rglob("*.link"))
