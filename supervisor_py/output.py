"""Where messages and the children's output go: our stderr, or the log that has taken its place.

Each generation's stderr comes through a pipe of its own. So the last lines of one that fails can be
shown to who asked for it, a log can be reopened under generations that go on, and no child waits
for a slow log: what can't be written is kept up to a limit, and then counted and dropped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from .errors import FatalError, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STDOUT, STDERR = 1, 2
_MOST_PENDING = 256 * 1024  # bytes kept for a log that does not take them now
_OUR_MORE = 16 * 1024  # and these of our own lines, whatever a child floods it with
_TAIL = 4096  # bytes of a generation's last words
_TAIL_LINES = 20
_CHUNK = 65536  # bytes: a pipe's capacity
_LONGEST_LINE = 8192  # bytes; a longer one is passed on in parts
_MODE = 0o666  # what the umask leaves of it
_PIPE_SIGN = "|"
_UNREAD = "it was not read"


class Log:
    """What --log-file names: a file to append to, or a command (`| cmd`) that takes it all in.

    The command's end of the pipe stays open here too: when the command dies, nothing is lost and no
    writer sees an error until its successor has been started.
    """

    def __init__(self, name: str, held: int = -1, read_end: int = -1) -> None:
        """Open it, or take over the fds that our predecessor in this process has opened.

        Raises FatalError.
        """
        self._name = name
        self.command = log_command(name)
        self.read_end = read_end
        self.streams: list[int] = []  # what our stdout and stderr were: a command's own
        if held >= 0:
            self._fd = held
            for fd in (held, read_end):
                if fd >= 0:
                    os.set_inheritable(fd, False)
        elif self.command:
            self.read_end, self._fd = os.pipe2(os.O_CLOEXEC)
        else:
            try:
                self._fd = self._open()
            except OSError as error:
                raise from_os_error(f"failed to open log file:{name}", error) from error

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        flags |= os.O_NONBLOCK  # a FIFO without a reader is an error, and nothing to wait for
        return os.open(self._name, flags, _MODE)

    def fileno(self) -> int:
        """Return the fd to write to."""
        return self._fd

    def take_over(self) -> None:
        """Put it in place of our stdout and stderr."""
        if self.command and not self.streams:
            self.streams = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (STDOUT, STDERR)]
        for fd in (STDOUT, STDERR):
            os.dup2(self._fd, fd, inheritable=True)

    def reopen(self) -> str:
        """Open a file anew, after its rotation; return what is wrong: then the old one stays."""
        if self.command:
            return ""
        try:
            fd = self._open()
        except OSError as error:
            return f"the log stays as it was: failed to open {self._name}: {error.strerror}"
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self.take_over()
        return ""

    def let_go(self) -> None:
        """Close our ends of a command's pipe, so that it sees the end of its input."""
        if not self.command:
            return
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        for fd in (self._fd, self.read_end):
            os.close(fd)
        for fd in (STDOUT, STDERR):
            os.dup2(null, fd, inheritable=True)
        os.close(null)


class Output:
    """Writes to our stderr, and never waits for it."""

    def __init__(self, watch_writable: Callable[[int, Callable[[], None] | None], bool]) -> None:
        """Begin; `watch_writable` is the loop's: it calls back when an fd takes data again.

        Given None instead of a callback it stops; it returns whether this fd can be waited for.
        """
        self._watch_writable = watch_writable
        self._pending = bytearray()
        self._waiting = False
        self._lost = 0
        self._why = _UNREAD

    def resume(self, unwritten: bytes, lost: int) -> None:
        """Take over what our predecessor in this process could not write yet."""
        self._pending += unwritten
        self._lost = lost

    def unwritten(self) -> tuple[bytes, int]:
        """Return what is pending, and how many bytes are lost and not said to be."""
        return bytes(self._pending), self._lost

    def say(self, text: str) -> None:
        """Write a line of ours."""
        line = f"{text}\n".encode("utf-8", "surrogateescape")
        self._take(line, _MOST_PENDING + _OUR_MORE)

    def write(self, data: bytes) -> None:
        """Write whole lines, now or as soon as they can be; what exceeds the limit is dropped."""
        self._take(data, _MOST_PENDING)

    def _take(self, data: bytes, most: int) -> None:
        if len(data) > most - len(self._pending):
            self._lose(len(data), _UNREAD)
        else:
            if self._lost and self._why == _UNREAD:  # it is missing here, between old and new
                self._pending += self._notice()
                self._lost = 0
            self._pending += data
        if not self._waiting:
            self.flush()

    def flush(self) -> None:
        """Write what is pending, as far as it goes without waiting."""
        while self._pending or self._lost:
            if not _takes_data():
                self._waiting = self._watch_writable(STDERR, self.flush)
                return
            try:
                self._write_part()
            except BlockingIOError:
                self._waiting = self._watch_writable(STDERR, self.flush)
                return
            except OSError as error:  # a full disk or a closed pipe: no reason to die, nor to wait
                self._lose(len(self._pending), error.strerror or str(error))
                self._pending.clear()
                break
        self.pause()

    def pause(self) -> None:
        """Wait for our stderr no longer, before it becomes something else; `write` goes on."""
        if self._waiting:
            self._waiting = False
            self._watch_writable(STDERR, None)

    def drain(self, seconds: float) -> None:
        """Write what is pending, and wait for that, at most for so long."""
        ends = time.monotonic() + seconds
        self.flush()
        while (self._pending or self._lost) and (left := ends - time.monotonic()) > 0:
            if not _takes_data(left):
                return
            self.flush()
            if not self._waiting:  # it takes no data at all: a full disk, or nobody reads it
                return

    def _lose(self, size: int, why: str) -> None:
        self._lost += size
        self._why = why

    def _write_part(self) -> None:
        """Write as much as surely goes in at once."""
        if self._lost and (self._why != _UNREAD or not self._pending):
            _write(self._notice())
            self._lost = 0
        else:
            del self._pending[: _write(bytes(self._pending[: select.PIPE_BUF]))]

    def _notice(self) -> bytes:
        return f"{self._lost} bytes of output were lost: {self._why}\n".encode()


def _takes_data(seconds: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(STDERR, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def _write(data: bytes) -> int:
    """Write to our stderr; raises BlockingIOError if a child has filled it since it took data."""
    try:
        return os.pwritev(STDERR, [data], -1, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):  # files, and older kernels' pipes
            raise
    return os.write(STDERR, data)


class Relay:
    """The reading end of a generation's stderr: passes whole lines on, and keeps the last ones."""

    def __init__(self, read_end: int, tail: bytes = b"", rest: bytes = b"") -> None:
        """Read from a pipe; `tail` and `rest` are what another Relay of it had kept."""
        self.read_end = read_end
        self.tail = tail
        self.rest = rest
        self.open = True
        os.set_blocking(read_end, False)

    def pump(self, output: Output, *, most: int = 1) -> None:
        """Pass on what has come in, in at most that many pieces; see `open` for its end."""
        for _ in range(most):
            try:
                data = os.read(self.read_end, _CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                data = b""
            if not data:
                self._end(output)
                return
            self.tail = (self.tail + data)[-_TAIL:]
            whole, newline, rest = (self.rest + data).rpartition(b"\n")
            if len(rest) > _LONGEST_LINE:
                whole, newline, rest = whole + newline + rest, b"\n", b""
            self.rest = rest
            if whole or newline:
                output.write(whole + newline)

    def _end(self, output: Output) -> None:
        if self.rest:
            output.write(self.rest + b"\n")
            self.rest = b""
        self.open = False

    def writer(self) -> int:
        """Return a new writing end of the pipe; raises OSError."""
        return os.open(f"/proc/self/fd/{self.read_end}", os.O_WRONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Read no more; what has come in stays known."""
        self.open = False
        os.close(self.read_end)

    def last_lines(self) -> list[str]:
        """Return the last lines that came in."""
        text = self.tail.decode("utf-8", "replace")
        lines = text.splitlines()
        if len(self.tail) == _TAIL:
            lines = lines[1:]  # most likely not a whole one
        return lines[-_TAIL_LINES:]


def pipe() -> tuple[int, int]:
    """Return the ends of a new pipe, to read from and for a child to write to; raises OSError."""
    return os.pipe2(os.O_CLOEXEC)


def log_command(name: str) -> str:
    """Return the command of a --log-file, empty for a file; raises FatalError."""
    if not name.lstrip().startswith(_PIPE_SIGN):
        return ""
    command = name.lstrip().removeprefix(_PIPE_SIGN).strip()
    if not command:
        raise FatalError(f'--log-file: "{name}" has no command after the |', 1)
    return command
