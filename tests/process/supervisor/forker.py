"""A server of a parent and its workers, as the file named by its argument says; see test_memory.py.

`workers` are forked when `shared_mb` are loaded. Each takes `private_mb` of its own as soon as
there is a file `grow-GENERATION`. TTOU ends a worker, TTIN forks one more, as in gunicorn; what
came in is written to `signals-GENERATION`.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

PLAN_FILE = Path(sys.argv[1])
PLAN = json.loads(PLAN_FILE.read_text())
NUMBER = os.environ["SERVER_STARTER_GENERATION"]
GROW = PLAN_FILE.with_name(f"grow-{NUMBER}")
MB = 1 << 20

workers: list[int] = []


def work(parent: int) -> None:
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    signal.signal(signal.SIGTTIN, signal.SIG_DFL)
    held = b""
    while os.getppid() == parent:
        if not held and GROW.exists():
            held = b"w" * (PLAN.get("private_mb", 0) * MB)
        time.sleep(0.02)  # between two looks for the file and for its parent
    os._exit(0)


def fork() -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        work(parent)
    workers.append(pid)


def resize(number: int, _frame: object) -> None:
    with PLAN_FILE.with_name(f"signals-{NUMBER}").open("a") as file:
        file.write(f"{signal.Signals(number).name}\n")
    if number == signal.SIGTTIN:
        fork()
    else:
        pid = workers.pop()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main() -> None:
    loaded = b"s" * (PLAN.get("shared_mb", 0) * MB)
    signal.signal(signal.SIGTTOU, resize)
    signal.signal(signal.SIGTTIN, resize)
    for _ in range(PLAN["workers"]):
        fork()
    address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"STATUS=%d MB loaded\nREADY=1\n" % (len(loaded) // MB), address)
    while True:
        signal.pause()


main()
