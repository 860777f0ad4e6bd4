"""Standard error with the app's name before each line that an app writes."""

import io
import sys
from typing import IO, TextIO

from . import context


class AppPrefixed(io.TextIOBase, TextIO):
    """A text stream that says whose each line is; lines of the server itself go through as is."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._at_line_start = True

    def write(self, text: str) -> int:
        """Write text, in one write to the stream, so that lines of threads don't mix."""
        app = context.current()
        prefixed = text
        if app is not None and text:
            body = text.removesuffix("\n")
            end = text[len(body) :]
            prefixed = body.replace("\n", f"\n{app.name}: ") + end
            if self._at_line_start:
                prefixed = f"{app.name}: {prefixed}"
        if text:
            self._at_line_start = text.endswith("\n")
        self._stream.write(prefixed)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Say yes."""
        return True

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
