"""Standard error with the app's name before each line that an app writes."""

import io
import sys
import threading
from typing import IO, TextIO

from . import context
from .context import AppContext


class _Unfinished(threading.local):
    """What a thread has written of a line, and for which app."""

    app: AppContext | None = None
    text = ""


class AppPrefixed(io.TextIOBase, TextIO):
    """A text stream that says whose each line is; lines of the server itself go through as is.

    An app's line is written when it is whole, in one write: threads of two apps that each write a
    line bit by bit, as print() does, don't mix.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._thread = _Unfinished()

    def write(self, text: str) -> int:
        """Write the lines that are whole by now."""
        app = context.current()
        if self._thread.app is not app:
            self._finish()
        if app is None:
            self._stream.write(text)
            return len(text)
        lines = (self._thread.text + text).split("\n")
        self._thread.app, self._thread.text = app, lines.pop()
        if lines:
            self._stream.write("".join(f"{app.name}: {line}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, with what the calling thread has of a line."""
        self._finish()
        self._stream.flush()

    def _finish(self) -> None:
        app, text = self._thread.app, self._thread.text
        self._thread.app, self._thread.text = None, ""
        if app is not None and text:
            self._stream.write(f"{app.name}: {text}\n")

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Say yes."""
        return True

    def reconfigure(self, **_settings: object) -> None:
        """Flush, and take no wishes: the stream is one for all, and stays as it is."""
        self.flush()

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._stream.name

    @property
    def mode(self) -> str:
        """The stream's mode."""
        return self._stream.mode

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What the stream does with characters that its encoding lacks."""
        return self._stream.errors

    @property
    def line_buffering(self) -> bool:
        """Whether the stream is flushed at the end of a line."""
        return bool(self._stream.line_buffering)

    @property
    def write_through(self) -> bool:
        """Whether the stream is written to at once."""
        return bool(getattr(self._stream, "write_through", False))

    @property
    def buffer(self) -> IO[bytes]:  # type: ignore[override]
        """The bytes below, for code that writes those: without a prefix."""
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return self._stream.encoding


def install() -> None:
    """Let sys.stderr name the app that writes."""
    sys.stderr = AppPrefixed(sys.stderr)
