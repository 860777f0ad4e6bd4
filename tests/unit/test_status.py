"""The pid file and the status file, where the file system does not do what it should."""

import errno
import os
from pathlib import Path

import pytest

from supervisor_py.errors import FatalError
from supervisor_py.status import PidFile, StatusFile


def _no_space(*_given: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_pid_file_that_cannot_be_written_is_not_left_behind_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    monkeypatch.setattr(os, "write", _no_space)
    with pytest.raises(FatalError, match=f"failed to write file:{path}: No space left") as refusal:
        PidFile(str(path))
    monkeypatch.undo()
    assert refusal.value.code == errno.ENOSPC
    assert not path.exists()


def test_a_device_is_no_pid_file_and_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (str(fifo), "/dev/null"):
        with pytest.raises(FatalError, match=f"failed to open file:{path}: not a file"):
            PidFile(path)
        assert Path(path).exists()


def test_a_pid_file_that_cannot_be_removed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = PidFile(str(tmp_path / "pid"))
    monkeypatch.setattr(os, "unlink", _no_space)
    file.remove()
    monkeypatch.undo()
    assert f"failed to unlink file:{tmp_path}/pid: No space" in capfd.readouterr().err


def test_a_pid_file_that_is_another_servers_by_now_is_left(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    file = PidFile(str(path))
    path.unlink()
    path.write_text("another\n")
    file.remove()
    assert path.read_text() == "another\n"


def test_a_failed_write_of_the_status_leaves_no_temporary_file_and_is_caught_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = StatusFile(str(tmp_path / "status"))
    monkeypatch.setattr(os, "rename", _no_space)
    with pytest.raises(OSError, match="No space"):
        file.write([(1, 100)])
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    file.write([(1, 100), (2, 200)])
    assert (tmp_path / "status").read_text() == "1:100\n2:200\n"
    file.remove()
    assert list(tmp_path.iterdir()) == []
