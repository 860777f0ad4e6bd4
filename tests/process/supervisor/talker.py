"""A program that talks as the file named by its argument says; start_server runs it in tests.

In texts, `#` is its generation number; they are written as Latin-1, so that any byte can be.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

PLAN = json.loads(Path(sys.argv[1]).read_text())
NUMBER = os.environ["SERVER_STARTER_GENERATION"]
asked: list[int] = []


def write(fd: int, text: str) -> None:
    data = text.replace("#", NUMBER).encode("latin-1")
    while data:
        data = data[os.write(fd, data) :]


def flood(lines: int) -> None:
    """Write lines as fast as they are taken, and tell in a file when that is done."""
    for at in range(lines):
        write(2, f"flood {at:08d} {'x' * 100}\n")
    Path(sys.argv[1]).with_name(f"flooded-{NUMBER}").touch()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    for text in PLAN.get("stdout", []):
        write(1, text)
    for text in PLAN.get("stderr", []):
        write(2, text)
    if "raise" in PLAN:
        raise RuntimeError(PLAN["raise"])
    flood(PLAN.get("flood", 0))
    if PLAN.get("ready", True):
        address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1\n", address)
    at = 0
    while not asked:
        if PLAN.get("count"):
            at += 1
            write(1 + at % 2, f"#: {at}\n")  # one order, by two ways
        if PLAN.get("halves"):
            write(2, "#" * 50)
            time.sleep(0.001)  # so that another's words could come in between
            write(2, "#" * 50 + "\n")
        time.sleep(PLAN.get("pause", 0.01))  # it talks all the time, and does not flood
    write(2, PLAN.get("last", f"#: ended after {at}\n"))


main()
