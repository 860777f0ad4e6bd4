"""A drop-in for Server::Starter 0.35: what users see of both is the same, but for the table."""

import pytest

from .cases import CASES
from .deviations import DEVIATIONS, compare
from .harness import Case, Results


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_ours_does_what_perls_does(case: Case, results: Results) -> None:
    problems, _ = compare(case, *results.of(case))
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_the_cases_have_names_of_their_own_and_are_some_hundred() -> None:
    assert len({case.id for case in CASES}) == len(CASES) > 300


@pytest.mark.parametrize("title", DEVIATIONS)
def test_what_is_listed_as_a_deviation_does_deviate(title: str, results: Results) -> None:
    named = [case for case in CASES if title in {one.deviation for one in case.deviates.values()}]
    for case in named or CASES:
        _, seen = compare(case, *results.of(case))
        if title in seen:
            return
    pytest.fail(f"no case shows it: {title}")


def test_cases_name_only_deviations_that_are_listed() -> None:
    named = {one.deviation for case in CASES for one in case.deviates.values()}
    assert named <= DEVIATIONS.keys()
