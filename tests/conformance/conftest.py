"""Runs the cases that were chosen, many at once: they mostly wait."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .harness import Case, Results, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if not here:
        return
    reason = missing()
    if reason and os.environ.get("CI"):
        raise pytest.UsageError(f"{reason}; in CI nothing may be skipped")
    for item in here if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    chosen: dict[str, Case] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            chosen |= _cases(item.callspec.params)
    one = Results(tmp_path_factory.mktemp("run"), chosen.values())
    yield one
    one.close()


def _cases(params: Mapping[str, object]) -> dict[str, Case]:
    many = params.get("cases")
    found = [params.get("case"), *(many[:1] if isinstance(many, list) else ())]
    return {one.id: one for one in found if isinstance(one, Case)}
