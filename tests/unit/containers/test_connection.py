"""The connection to a container: what a command finds there is not what the caller has."""

import os

import pytest

from ansible_collections.kechi.vps.plugins.connection.container import Connection


@pytest.fixture
def private():
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize("stdin", [b"", None])
def test_a_command_has_the_umask_of_a_login_whatever_ours_is(private, monkeypatch, tmp_path, stdin):
    monkeypatch.setattr(Connection, "_entered", lambda _self, argv: argv)
    monkeypatch.setattr(Connection, "get_option", lambda *_: None)
    connection = Connection.__new__(Connection)
    (tmp_path / "stdin").touch()
    with (tmp_path / "stdin").open("rb") as file:
        given = file if stdin is None else stdin
        code, out, _ = connection._exec(["/bin/sh", "-c", "umask"], given)
    assert (code, int(out, 8)) == (0, 0o022)
