"""Compiling the Python files of strangers: not in a process of root's, and within bounds.

A compiler reads whatever a release has. So that happens in a process without rights, which gets the
sources and gives byte code back through pipes, and can neither read nor write a file of its own.
"""

from __future__ import annotations

import importlib.util
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY_BYTES = 1 << 30
FILE_SECONDS = 30  # a file of 100,000 lines takes 5 on a small machine
MOST_SOURCE = 16 << 20  # bytes; nobody writes such a file
MOST_DEATHS = 3  # of the compiler, after which the rest is left to whoever imports it
UNCHECKED = 1  # of the flags in a .pyc: it is made of a source that does not change (PEP 552)
NOBODY = 65534  # nothing belongs to it: it gets pipes, and nothing else
CODE = f"""
import encodings.latin_1, marshal, os, resource, sys
for limit, most in (
    (resource.RLIMIT_AS, {MEMORY_BYTES}), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)
):
    hard = resource.getrlimit(limit)[1]
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(limit, (most, most))
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
def take(count):
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit()
    return data
while True:
    name = take(int.from_bytes(take(8), "big")).decode("utf-8", "surrogateescape")
    source = take(int.from_bytes(take(8), "big"))
    try:
        made = marshal.dumps(compile(source, name, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        made = b""
    sys.stdout.buffer.write(len(made).to_bytes(8, "big") + made)
    sys.stdout.buffer.flush()
"""


class _EndedError(Exception):
    """The compiler has ended, or takes too long."""


class _Compiler:
    """The process that compiles."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        for end in (self._in, self._out):
            os.set_blocking(end, False)

    def compile(self, name: str, source: bytes) -> bytes:
        """Byte code, as marshal writes it; nothing for what can't be compiled."""
        ends = time.monotonic() + FILE_SECONDS
        given = os.fsencode(name)
        self._write(len(given).to_bytes(8, "big") + given, ends)
        self._write(len(source).to_bytes(8, "big") + source, ends)
        length = int.from_bytes(self._read(8, ends), "big")
        if length > MEMORY_BYTES:
            raise _EndedError
        return self._read(length, ends)

    def _write(self, data: bytes, ends: float) -> None:
        left = memoryview(data)
        while left:
            self._wait(self._in, select.POLLOUT, ends)
            try:
                left = left[os.write(self._in, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _EndedError from error

    def _read(self, count: int, ends: float) -> bytes:
        found = bytearray()
        while len(found) < count:
            self._wait(self._out, select.POLLIN, ends)
            try:
                data = os.read(self._out, min(count - len(found), 1 << 20))
            except BlockingIOError:
                continue
            if not data:
                raise _EndedError
            found += data
        return bytes(found)

    @staticmethod
    def _wait(end: int, event: int, ends: float) -> None:
        poll = select.poll()
        poll.register(end, event)
        if not poll.poll(max(0.0, ends - time.monotonic()) * 1000):
            raise _EndedError


@contextmanager
def _running() -> Iterator[_Compiler]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
    ) as process:
        try:
            yield _Compiler(process)
        finally:
            process.kill()


def compile_tree(folder: Path, named: Path) -> None:
    """Put byte code beside the Python files of a release of root's, which will be called `named`.

    What can't be compiled is left as it is: whoever imports it is told why.
    """
    due = [
        path for path in sorted(folder.rglob("*.py")) if not path.is_symlink() and path.is_file()
    ]
    deaths = 0
    while due and deaths < MOST_DEATHS:
        with _running() as compiler:
            try:
                while due:
                    _compile(compiler, due.pop(0), folder, named)
            except _EndedError:
                deaths += 1


def _compile(compiler: _Compiler, path: Path, folder: Path, named: Path) -> None:
    if path.stat().st_size > MOST_SOURCE:
        return
    source = path.read_bytes()
    code = compiler.compile(str(named / path.relative_to(folder)), source)
    if code:
        header = importlib.util.MAGIC_NUMBER + UNCHECKED.to_bytes(4, "little")
        _put(Path(importlib.util.cache_from_source(str(path))), header, source, code)


def _put(cached: Path, header: bytes, source: bytes, code: bytes) -> None:
    """Write byte code where the release itself has no link that leads it elsewhere."""
    if cached.parent.is_symlink() or (cached.parent.exists() and not cached.parent.is_dir()):
        return
    cached.parent.mkdir(exist_ok=True)
    if cached.is_dir() and not cached.is_symlink():
        return
    cached.unlink(missing_ok=True)
    with cached.open("xb") as file:
        file.write(header + importlib.util.source_hash(source) + code)
