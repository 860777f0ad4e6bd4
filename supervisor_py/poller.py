"""Waiting for anything at all: fds, and signals by way of the wake-up pipe."""

from __future__ import annotations

import os
import select

from . import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[[], None]

_LONGEST_WAIT = 86400.0  # seconds; the kernel takes 24 days at most


class Poller:
    """An epoll and its callbacks; without a deadline, an idle one never wakes up."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._wake_read, self._drain)

    def watch(self, fd: int, callback: Callback) -> None:
        """Call back when there is something to read; raises OSError at the kernel's limit."""
        self._epoll.register(fd, select.EPOLLIN)
        self._callbacks[fd] = callback

    def watch_writable(self, fd: int, callback: Callback | None) -> bool:
        """Call back when an fd takes data (None: no longer); tell whether it can be waited for."""
        if callback is None:
            self.forget(fd)
            return False
        if fd not in self._callbacks:
            try:
                self._epoll.register(fd, select.EPOLLOUT)
            except OSError:
                return False
            self._callbacks[fd] = callback
        return True

    def forget(self, fd: int) -> None:
        """Watch an fd no longer, if it was watched; before it is closed."""
        if self._callbacks.pop(fd, None):
            self._epoll.unregister(fd)

    def catch_signals(self) -> None:
        """Let signals end a wait from now on."""
        signals.wake(self._wake_write)

    def wait(self, seconds: float | None) -> None:
        """Wait until something happens, or for so long, and call back."""
        timeout = None if seconds is None else min(seconds, _LONGEST_WAIT)
        for fd, _mask in self._epoll.poll(timeout):
            callback = self._callbacks.get(fd)
            if callback:
                callback()

    @staticmethod
    def wait_for(fd: int, seconds: float) -> None:
        """Wait for one fd alone, at the end of all."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(min(seconds, _LONGEST_WAIT) * 1000)

    def _drain(self) -> None:
        try:
            while os.read(self._wake_read, 512):
                pass
        except BlockingIOError:
            pass
