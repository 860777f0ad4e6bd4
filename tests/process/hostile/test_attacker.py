"""The attacker of these tests is itself no threat: it ends with the test that has started it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
SECONDS = 60  # then it would be there for ever
STARTS = """
import sys
from tests.process.hostile import attacker
with attacker._process(lambda: (print(attacker.os.getpid(), flush=True), attacker.signal.pause())):
    sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the attacker")
def test_an_attacker_ends_when_its_test_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", STARTS],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as test:
        assert test.stdout is not None
        fd = os.pidfd_open(int(test.stdout.readline()))
        test.kill()
    ends = select.poll()
    ends.register(fd, select.POLLIN)
    assert ends.poll(SECONDS * 1000), "it goes on without its test"
    os.close(fd)
