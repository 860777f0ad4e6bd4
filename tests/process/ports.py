"""Free ports, below those that the kernel gives to whoever asks for any: nobody gets one by chance.

Each of the processes that run tests at once has its own, so that none looks at another's.
"""

import errno
import itertools
import os
import socket
import threading

_EACH = 12000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_FIRST = 20000 + _EACH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_NEXT = itertools.count(os.getpid() * 7)
_LOCK = threading.Lock()


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind) as probe:
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:  # not where the machine has no IPv6
                    return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens, on any address, by TCP or UDP; never one twice."""
    found: list[int] = []
    with _LOCK:
        while len(found) < count:
            port = _FIRST + next(_NEXT) % _EACH
            if _is_free(port):
                found.append(port)
    return found
