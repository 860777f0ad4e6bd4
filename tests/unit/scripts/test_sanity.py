"""What ansible-test says is ignored where there is a reason for that."""

from pathlib import Path

import pytest

from scripts import sanity
from scripts.running import REPOSITORY

CORE = "2.20"
THERE = ["plugins/modules/a.py", "plugins/modules/b.py"]


def test_the_list_has_a_file_a_test_and_a_reason_in_each_line() -> None:
    lines = ["# all of them", "", "plugins/modules/a.py pylint:disallowed-name # no gettext here"]
    assert sanity.ignored(lines, THERE, CORE) == lines[2:]


@pytest.mark.parametrize(
    ("releases", "is_for"),
    [("", True), ("<2.21 ", True), (">=2.20 ", True), (">=2.21 ", False), ("==2.19 ", False)],
)
def test_a_line_may_be_for_some_releases_of_ansible_core(releases: str, is_for: bool) -> None:
    entry = "plugins/modules/a.py pylint:ansible-bad-function # it runs beside the module"
    assert sanity.ignored([releases + entry], THERE, CORE) == ([entry] if is_for else [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plugins/modules/a.py no-assert", 'line 1, "plugins/modules/a.py no-assert": FILE TEST'),
        ("plugins/modules/a.py no-assert # ", "line 1, "),
        ("plugins/modules/a.py # why", "FILE TEST # REASON is wanted"),
        (">=2.20 plugins/modules/a.py no-assert", "line 1, "),
        ("plugins/modules/c.py no-assert # why", 'line 1: "plugins/modules/c.py" is not in'),
    ],
)
def test_a_line_without_a_reason_or_of_no_file_is_refused(line: str, words: str) -> None:
    with pytest.raises(sanity.SanityError, match=words):
        sanity.ignored([line], THERE, CORE)


def test_what_is_ignored_is_there() -> None:
    there = [
        str(file.relative_to(REPOSITORY))
        for folder in sanity.CONTENT
        for file in (REPOSITORY / folder).rglob("*")
    ]
    assert sanity.ignored(sanity.IGNORED.read_text(encoding="utf-8").splitlines(), there, CORE)


def test_the_tests_have_a_home_of_their_own_and_no_settings_of_ours() -> None:
    ours = {"HOME": "/root", "ANSIBLE_CONFIG": "ansible.cfg", "PATH": "/bin", "PIP_CERT": "/ca"}
    environ = sanity.environment(ours, Path("/cache"))
    assert environ["HOME"] == "/cache"
    assert environ["PIP_CERT"] == "/ca"
    assert environ["PATH"].endswith(":/bin")
    assert "ANSIBLE_CONFIG" not in environ
