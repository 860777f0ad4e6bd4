"""A headless Chromium, asked over its DevTools pipe: it takes no library and no port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SILENT_SECONDS = 120.0  # a busy machine takes its time, a dead browser for ever
FIRST_FREE = 10  # descriptors from here on are neither of the two that the browser expects
# the browser reads commands from descriptor 3 and writes answers to 4
EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # it only sees pages of our own, and may be root's
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def program() -> str:
    """The browser of this machine; skips the test where there is none, and says what brings one."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    assert "CI" not in os.environ, "a browser must be there in CI"
    pytest.skip(f"none of {', '.join(NAMES)} is installed here (scripts/host-packages test)")


class Browser:
    """One page, which is shown one file after the other."""

    def __init__(self, profile: Path) -> None:
        commands, self._commands = (_high(fd) for fd in os.pipe())
        self._answers, answers = (_high(fd) for fd in os.pipe())
        self._log = (profile.parent / f"{profile.name}.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                sys.executable, "-c", EXEC, str(commands), str(answers),
                program(), *OPTIONS, f"--user-data-dir={profile}", "about:blank",
            ],
            pass_fds=(commands, answers),
            env={**os.environ, "HOME": str(profile)},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._read = b""
        self._asked = 0
        self._session = ""
        page = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._ask("Target.attachToTarget", {"targetId": page, "flatten": True})
        self._session = attached["sessionId"]
        self._ask("Page.enable")

    def close(self) -> None:
        """End it, with all its processes."""
        os.close(self._commands)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._answers)
        self._log.close()

    def show(self, file: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Load a file into a window of that size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", size)
        self._ask("Page.navigate", {"url": file.absolute().as_uri()})
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, script: str) -> Any:
        """What an expression of JavaScript is in the page."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._ask("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, *, whole: bool = True) -> bytes:
        """A PNG of the page, or of what its window shows."""
        asked = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
            asked["clip"] = {**size, "scale": 1}
        return base64.b64decode(self._ask("Page.captureScreenshot", asked)["data"])

    def _ask(self, method: str, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
        self._asked += 1
        command = {"id": self._asked, "method": method, "params": parameters or {}}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._asked:
                assert "error" not in told, (method, told)
                found: dict[str, Any] = told["result"]
                return found

    def _next(self) -> dict[str, Any]:
        """The next message: an answer, or an event."""
        ends = time.monotonic() + SILENT_SECONDS
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], max(ends - time.monotonic(), 0))
            read = os.read(self._answers, 1 << 20) if ready else b""
            assert read, f"the browser {'has ended' if ready else 'is silent'}: {self._said()}"
            self._read += read
        message, _, self._read = self._read.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()


def _high(fd: int) -> int:
    """The same, under a number that the browser's two don't have."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(fd)
    return high
