"""Asking in a process of its own: it may load and become what it likes, and then is gone."""

from __future__ import annotations

import os

from .errors import FatalError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_MOST = 65536  # bytes of an answer: a pipe's capacity


def ask(question: Callable[[], None]) -> None:
    """Ask in a forked process; raises the FatalError that was raised there, or that of the fork."""
    try:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
    except OSError as error:
        raise from_os_error("fork failed", error) from error
    if pid == 0:
        _answer(question, write_end)
    os.close(write_end)
    with open(read_end, "rb") as file:
        answer = os.fsdecode(file.read())
    _, status = os.waitpid(pid, 0)
    if status:
        code, _, message = answer.partition(" ")
        if code.isdecimal():
            raise FatalError(message, int(code))
        raise FatalError(f"the start could not be checked: {answer or f'status:{status}'}")


def _answer(question: Callable[[], None], write_end: int) -> NoReturn:
    """Be the process that is asked; nothing of the parent's clean-up may ever run."""
    answer, code = "", 1
    try:
        question()
        code = 0
    except FatalError as error:
        answer = f"{error.code} {error}"
    except BaseException as error:  # noqa: BLE001  it must not get out of the child
        answer = repr(error)
    finally:
        try:
            os.write(write_end, os.fsencode(answer)[:_MOST])
        finally:
            os._exit(code)
