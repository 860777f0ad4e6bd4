"""A server that behaves as the file named by its argument says; start_server runs it in tests.

It records what it was given in `generation-N.json` beside that file, and answers each connection
with its generation number.
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path

PAUSE_US = 20_000


def main() -> None:
    plan_file = Path(sys.argv[1])
    plan = json.loads(plan_file.read_text())
    number = os.environ["SERVER_STARTER_GENERATION"]
    record = {
        "environment": dict(os.environ),
        "pid": os.getpid(),
        "plan": plan,
        "directory": str(Path.cwd()),
        "fds": sorted(int(link.name) for link in Path("/proc/self/fd").iterdir() if link.exists()),
        "signals": {
            line.split(":")[0]: line.split()[1]
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("Sig")
        },
        "blocking": {
            item.rpartition("=")[2]: os.get_blocking(int(item.rpartition("=")[2]))
            for item in filter(None, os.environ["SERVER_STARTER_PORT"].split(";"))
        },
    }
    temporary = plan_file.with_name(f"generation-{number}.tmp")
    temporary.write_text(json.dumps(record))
    temporary.rename(plan_file.with_name(f"generation-{number}.json"))

    if "exit" in plan:
        sys.exit(plan["exit"])
    for name in plan.get("ignore", []):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if "gate" in plan:
        os.read(os.open(plan["gate"], os.O_RDONLY), 1)
    if plan.get("ready"):
        address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"STATUS=up\nREADY=1\n", address)
    if "exit when ready" in plan:
        sys.exit(plan["exit when ready"])
    sockets = [
        socket.socket(fileno=int(item.rpartition("=")[2]))
        for item in filter(None, os.environ["SERVER_STARTER_PORT"].split(";"))
    ]
    # A server that is told to end finishes what it has accepted: TERM waits until that is done.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for one in sockets:  # another generation may have taken in what woke us
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, PAUSE_US))
    while True:
        for one in select.select(sockets, [], [], PAUSE_US / 1e6)[0]:
            with contextlib.suppress(OSError):  # a client may leave at any time
                answer(one, number.encode())
        if signal.SIGTERM in signal.sigpending():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def answer(one: socket.socket, text: bytes) -> None:
    if one.type == socket.SOCK_DGRAM:
        _, address = one.recvfrom(100)
        one.sendto(text, address)
    else:
        connection, _ = one.accept()
        with connection:
            connection.sendall(text)


main()
