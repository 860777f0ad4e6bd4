from pathlib import Path

import pytest

from supervisor_py.vhost import versions
from supervisor_py.vhost.versions import Need


@pytest.mark.parametrize(
    ("version", "wanted", "met"),
    [
        ("3.1.6", "", True),
        ("3.1.6", "==3.1.6", True),
        ("3.1", "==3.1.0", True),
        ("3.1.6", "== 3.1.5", False),
        ("3.1.6", "==3.1.*", True),
        ("3.10", "==3.1.*", False),
        ("3.1.6", "!=3.1.*", False),
        ("3.1.6", "!=3.1.6", False),
        ("3.1.6", ">=3,<4", True),
        ("3.1.6", ">=3, <3.1", False),
        ("3.10", ">3.9", True),
        ("3.1.6", "<=3.1", False),
        ("3.1.6", "~=3.1.2", True),
        ("3.2", "~=3.1.2", False),
        ("3.1.1", "~=3.1.2", False),
        ("3.2", "~=3.1", True),
        ("3.1.6rc1", "<3", True),  # more than numbers: not for us to say
        ("3.1.6", "==3.1.6rc1", True),
    ],
)
def test_a_version_meets_what_is_wanted(version: str, wanted: str, met: bool) -> None:
    assert versions.meets(version, wanted) is met


def need(library: str, *, met: bool, text: str = "x==1") -> Need:
    return Need(text, "r.txt:1", library, "2", met)


def test_only_a_need_that_a_neighbour_contradicts_is_a_clash() -> None:
    apps = {
        "a": [need("x", met=True, text="x>=2"), need("y", met=False)],
        "b": [need("x", met=False), need("z", met=True)],
        "c": [need("y", met=False)],
    }
    assert versions.clashes(apps) == {
        "b": "it needs x==1 (r.txt:1), and the virtualenv has 2, which the app a needs (x>=2,"
        " r.txt:1): a pool has one virtualenv, for isolated apps, too; move one of them to another"
        " pool"
    }


def test_lines_that_say_something_else_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "# pytest==1\n-r pytest.txt\n\npytest [x] >= 1 , < 2 # why\n./pytest\n"
        'pytest==1; python_version < "3"\npytest @ file:///pytest\nnothing-of-the-kind==1\n'
    )
    assert [(one.text, one.where, one.met) for one in versions.needs(tmp_path)] == [
        ("pytest [x] >= 1 , < 2", f"{tmp_path}/requirements.txt:4", False)
    ]
    assert list(versions.needs(tmp_path / "none")) == []
