"""vhost_server on a machine: of the pool that is named, never as root."""

import subprocess
from pathlib import Path

import pytest

from supervisor_py.vhost import of_pool


@pytest.mark.parametrize(
    ("argument", "pool"),
    [
        ("main", "main"),
        ("/etc/kechi/pools/main.toml", "main"),
        ("/etc/kechi/pools/../main.toml", ""),
        ("/srv/www/blog/shared/main.toml", ""),
        ("--check", ""),
        ("", ""),
        ("main@x", ""),
    ],
)
def test_a_pool_is_named_or_its_file_is(argument: str, pool: str) -> None:
    assert of_pool.pool_of(argument) == pool


def test_root_runs_an_apps_code_as_the_pools_user_and_confined() -> None:
    words = of_pool.command(["--check"], "main", "300M", root=True)
    assert words[0] == "systemd-run"
    for wanted in ("User=kechi-main", "Group=kechi-main", "MemoryMax=300M", "TasksMax=256"):
        assert f"--property={wanted}" in words
    own = ["/srv/kechi/main/venv/bin/vhost_server", "--check", "/etc/kechi/pools/main.toml"]
    assert words[-3:] == own
    assert of_pool.command(["--check"], "main", "300M", root=False) == own


@pytest.mark.parametrize("arguments", [["--check", "nonesuch"], ["--check"], ["../main"]])
def test_what_is_no_pool_is_refused_with_those_that_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    (tmp_path / "main.toml").touch()
    monkeypatch.setattr(of_pool, "POOL_FILES", tmp_path)
    monkeypatch.setattr(subprocess, "run", None)
    assert of_pool.main(arguments) == 1
    assert f'"{arguments[-1]}" is no pool of Python apps here; there: main' in (
        capsys.readouterr().err
    )
