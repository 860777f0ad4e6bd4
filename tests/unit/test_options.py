"""The command line, as Perl's Getopt::Long reads it: observed on Server::Starter 0.35."""

import pytest

from supervisor_py import options
from supervisor_py.settings import OPTIONS


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--port=80 --port 81 x", "port", ("80", "81")),
        ("-port 80 x", "port", ("80",)),
        ("--POR=80 x", "port", ("80",)),
        ("x --path=/a y", "path", ("/a",)),
        ("--path -- x", "path", ("--",)),
        ("+port=80 +PO 81 x", "port", ("80", "81")),
    ],
)
def test_repeatable_options_are_read(line: str, name: str, value: tuple[str, ...]) -> None:
    parsed = options.parse(OPTIONS, line.split())
    assert parsed.problems == ()
    assert parsed.texts(name) == value


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("--interval=2 --interval 3", 3.0),
        ("--int -1", -1.0),
        ("--interval=+4", 4.0),
        ("--interval=1_000", 1000.0),
        ("--interval=-_7_", -7.0),
    ],
)
def test_the_last_scalar_wins_and_integers_may_have_a_sign(line: str, number: float) -> None:
    parsed = options.parse(OPTIONS, line.split())
    assert parsed.problems == ()
    assert parsed.number("interval") == number


@pytest.mark.parametrize(
    ("line", "problems"),
    [
        ("--path=", ("Option path requires an argument",)),
        ("--dir", ("Option dir requires an argument",)),
        ("--interval=0.5 x", ('Value "0.5" invalid for option interval (number expected)',)),
        ("--interval -- x", ('Value "--" invalid for option interval (number expected)',)),
        ("--interval=\u0663", ('Value "\u0663" invalid for option interval (number expected)',)),
        ("--grace=soon x", ('Value "soon" invalid for option grace (seconds expected)',)),
        ("--p=1 x", ("Option p is ambiguous (path, pid-file, port)",)),
        ("--Foo -x +y a", ("Unknown option: foo", "Unknown option: x", "Unknown option: y")),
        ("---port=1 --=1", ("Unknown option: -port", "Unknown option: =1")),
        ("a +", ("Missing option after +",)),
        (
            "--int=9999999999999999999",
            ('Value "9999999999999999999" invalid for option interval (number expected)',),
        ),
        ("--rest=1", ("Option restart does not take an argument",)),
        ("prog --unknown-of-prog", ("Unknown option: unknown-of-prog",)),
    ],
)
def test_each_wrong_option_has_its_message(line: str, problems: tuple[str, ...]) -> None:
    assert options.parse(OPTIONS, line.split()).problems == problems


@pytest.mark.parametrize("typed", ["--r", "--re", "--rest", "--restart"])
def test_abbreviations_of_perls_options_are_not_taken_by_ours(typed: str) -> None:
    parsed = options.parse(OPTIONS, [typed])
    assert parsed.problems == ()
    assert parsed.flag("restart")


def test_ours_can_be_abbreviated_too() -> None:
    assert options.parse(OPTIONS, ["--restart-t=1.5"]).number("restart-timeout") == 1.5
    assert options.parse(OPTIONS, ["--gra", "2"]).number("grace") == 2


def test_a_number_is_kept_as_children_are_to_see_it() -> None:
    assert options.parse(OPTIONS, ["--kill-old-delay=+007"]).text("kill-old-delay") == "7"


def test_status_with_a_value_is_perls_status_file() -> None:
    assert options.parse(OPTIONS, ["--status=x"]).text("status-file") == "x"
    assert options.parse(OPTIONS, ["--status"]).flag("status")


def test_what_follows_the_double_dash_is_the_programs() -> None:
    parsed = options.parse(OPTIONS, ["--port=1", "a", "--", "--port=2", "--", "-x"])
    assert parsed.arguments == ("a", "--port=2", "--", "-x")
    assert parsed.texts("port") == ("1",)


def test_the_help_names_every_option() -> None:
    text = options.describe(OPTIONS)
    for option in OPTIONS:
        assert f"--{option.name}" in text
