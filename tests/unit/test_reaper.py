"""Which start of start_server becomes the reaper of what its generations leave behind."""

import pytest

from supervisor_py import reaper


@pytest.mark.parametrize(
    ("arguments", "is_client"),
    [
        (["start_server", "--status", "--pid-file=pid"], True),
        (["start_server", "--port=80", "--", "app"], False),
        (["start_server", "--port=80", "--", "app", "--status"], False),
        (["start_server", "--restart", "--", "app"], True),
    ],
)
def test_an_option_of_the_child_makes_no_client_of_start_server(
    arguments: list[str], is_client: bool
) -> None:
    assert reaper.asks(arguments) is is_client
