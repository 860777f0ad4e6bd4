"""What ansible-test says is ignored where there is a reason for that."""

from pathlib import Path

import pytest

from scripts import sanity
from scripts.running import REPOSITORY

THERE = ["plugins/modules/a.py", "plugins/modules/b.py"]


def test_the_list_has_a_file_a_test_and_a_reason_in_each_line() -> None:
    lines = ["# all of them", "", "plugins/modules/a.py pylint:disallowed-name # no gettext here"]
    assert sanity.ignored(lines, THERE) == lines[2:]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plugins/modules/a.py no-assert", 'line 1, "plugins/modules/a.py no-assert": FILE TEST'),
        ("plugins/modules/a.py no-assert # ", "line 1, "),
        ("plugins/modules/a.py # why", "FILE TEST # REASON is wanted"),
        ("plugins/modules/c.py no-assert # why", 'line 1: "plugins/modules/c.py" is not in'),
    ],
)
def test_a_line_without_a_reason_or_of_no_file_is_refused(line: str, words: str) -> None:
    with pytest.raises(sanity.SanityError, match=words):
        sanity.ignored([line], THERE)


def test_what_is_ignored_is_there() -> None:
    there = [
        str(file.relative_to(REPOSITORY))
        for folder in sanity.CONTENT
        for file in (REPOSITORY / folder).rglob("*")
    ]
    assert sanity.ignored(sanity.IGNORED.read_text(encoding="utf-8").splitlines(), there)


def test_the_tests_have_a_home_of_their_own_and_no_settings_of_ours() -> None:
    ours = {"HOME": "/root", "ANSIBLE_CONFIG": "ansible.cfg", "PATH": "/bin", "PIP_CERT": "/ca"}
    environ = sanity.environment(ours, Path("/cache"))
    assert environ["HOME"] == "/cache"
    assert environ["PIP_CERT"] == "/ca"
    assert environ["PATH"].endswith(":/bin")
    assert "ANSIBLE_CONFIG" not in environ
