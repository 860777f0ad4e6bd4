"""A drop-in for Server::Starter 0.35: what users see of both is the same, but for the table."""

import pytest

from .cases import CASES
from .deviations import DEVIATIONS, EQUALS, compare
from .harness import Case, Results, perl_keeps_equals


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_ours_does_what_perls_does(case: Case, results: Results) -> None:
    problems, _ = compare(case, *results.of(case))
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_the_cases_have_names_of_their_own_and_are_some_hundred() -> None:
    assert len({case.id for case in CASES}) == len(CASES) > 300


def _named(case: Case) -> set[str]:
    return {one.deviation for one in case.deviates.values()}


def _showing(title: str) -> list[Case]:
    example = DEVIATIONS[title].example
    return [case for case in CASES if title in _named(case) or case.id == example]


def _seen_here() -> list[str]:
    """The deviations that there are from the Perl of this machine."""
    return [title for title in DEVIATIONS if title != EQUALS or perl_keeps_equals()]


@pytest.mark.parametrize(
    ("title", "cases"), [pytest.param(title, _showing(title), id=title) for title in _seen_here()]
)
def test_what_is_listed_as_a_deviation_does_deviate(
    title: str, cases: list[Case], results: Results
) -> None:
    assert cases, "no case is known to show it"
    assert any(title in compare(case, *results.of(case))[1] for case in cases)


def test_cases_name_only_deviations_that_are_listed() -> None:
    assert {title for case in CASES for title in _named(case)} <= DEVIATIONS.keys()
