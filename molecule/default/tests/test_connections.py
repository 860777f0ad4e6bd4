"""What one visitor can take of the front end, and that the others come in beside it."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

IN_WORK = 100  # requests of one address
SLOW = 2000  # more than all that nginx's package has it take: 768 for each worker
HEAD = b"POST / HTTP/1.1\r\nHost: motd.example\r\nContent-Length: 1\r\n"


@contextmanager
def open_requests(address: str, count: int, sent: bytes) -> Iterator[None]:
    """Hold so many connections that each have sent this, and nothing more."""
    host, _, port = address.partition(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:
        # only meanwhile: an engine may not be able to hand a larger limit on to what it runs
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * SLOW)), hard))
        for _ in range(count):
            held.enter_context(socket.create_connection((host, int(port)), 30)).sendall(sent)
        yield


def test_headers_that_never_end_keep_nobody_out(vps):
    with open_requests(vps.address, SLOW, HEAD):
        assert vps.get("motd.example").status == 200


def test_an_address_has_so_many_requests_in_work_and_no_more(vps):
    with open_requests(vps.address, IN_WORK, HEAD + b"\r\n"):
        vps.wait_until(lambda: vps.get("motd.example").status == 429, "the limit is reached")
        assert vps.get("clock.example").status == 429  # over all apps
    vps.wait_until(lambda: vps.get("motd.example").status == 200, "those have gone")


def test_logs_are_read_by_root_and_its_group_alone(host):
    for name in ("access.log", "error.log", "kechi-access.log"):
        log = host.file(f"/var/log/nginx/{name}")
        assert (log.exists, log.mode & 0o007) == (True, 0), name
