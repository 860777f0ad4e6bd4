import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from .harness import (
    EXAMPLES,
    Connection,
    Load,
    Server,
    Sockets,
    restart_under_load,
    vhost_server,
)

HOST = "motd.test"
CLOCK = ("node", EXAMPLES / "clock" / "server.js")
GENERATIONS = 20


def load_on(addresses: Sequence[str | int], host: str = HOST) -> Load:
    load = Load()
    for address in addresses:
        load.new_connections(address, host)
        for think in (0.001, 0.3, 1.2):
            load.keep_alive(address, host, think)
    load.slow(addresses[0], host, 1.5)
    return load


def test_twenty_generations_under_load_lose_no_request(
    motd_pool: Callable[..., Path], sockets: Sockets
) -> None:
    pool = motd_pool()
    load = load_on([sockets.path, sockets.port])
    restart_under_load(lambda n: vhost_server(pool, sockets, n), GENERATIONS, load)
    assert load.failures == []
    assert len({name.split("/")[0] for name in load.seen}) == GENERATIONS
    assert min(load.done["new"], load.done["keep-alive"]) > 10 * GENERATIONS
    assert load.done["slow"] >= 1, "at the least one was under way all the time"


def test_the_clock_loses_no_request_when_restarted(sockets: Sockets) -> None:
    def start(generation: int) -> Server:
        last = sockets.fds[-1]
        said = f"generation {generation} listens on fd {last}"
        return Server(CLOCK, sockets, generation, ready=said)

    load = load_on([sockets.path, sockets.port])
    restart_under_load(start, 6, load)
    assert load.failures == []
    assert len({name.split("/")[0] for name in load.seen}) == 6


def test_the_clock_finishes_what_runs_when_told_to_end_twice(sockets: Sockets) -> None:
    server = Server(CLOCK, sockets, ready="listens on fd")
    server.wait_ready()
    with (
        contextlib.closing(Connection(sockets.path)) as client,
        contextlib.closing(Connection(sockets.path)) as silent,
    ):
        silent.connect()
        client.request("GET", "/slow?seconds=1", headers={"Host": HOST})
        response = client.getresponse()
        server.process.terminate()
        assert silent.sock.recv(1) == b"", "it has heard of its end"
        server.process.terminate()
        assert response.read().endswith(b"done\n")
    assert server.wait() == 0
