"""The promises of docs/promises.md, each kept by the real thing while clients keep asking."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..waiting import wait_until
from .harness import NEVER, Server, alive, connect


class Asked:
    """What clients got who made one connection after the other."""

    def __init__(self, clients: int) -> None:
        self.answers: list[int] = []
        self.failures: list[OSError] = []
        self.made = [0] * clients  # connections, by client

    def wait_for_each(self) -> None:
        """Wait until each has made a connection anew, and knows what became of it."""
        goals = [made + 2 for made in self.made]  # one is under way
        wait_until(
            lambda: all(made >= goal for made, goal in zip(self.made, goals, strict=True)),
            "each client asks once more",
        )


@contextmanager
def clients(server: Server, number: int = 2) -> Iterator[Asked]:
    """Ask all the time, over new connections."""
    asked, over = Asked(number), threading.Event()

    def ask(client: int) -> None:
        while not over.is_set():
            try:
                with connect(str(server.path)) as connection:
                    asked.answers.append(int(connection.recv(10)))
            except (OSError, ValueError) as error:
                asked.failures.append(OSError(error))
            asked.made[client] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(number)]
    for thread in threads:
        thread.start()
    try:
        asked.wait_for_each()
        yield asked
        asked.wait_for_each()
    finally:
        over.set()
        for thread in threads:
            thread.join()


def start(server: Server, *options: str) -> Server:
    server.start("--readiness=notify", f"--path={server.path}", *options).wait_serving(1)
    return server


def test_while_a_new_generation_is_not_ready_the_old_one_serves(server: Server) -> None:
    start(server)
    gate = server.gate()
    server.plan(ready=True, gate=gate.path)
    with clients(server) as asked:
        server.signal(signal.SIGHUP)
        assert server.record(2), "it runs, and is not ready"
        for _ in range(10):
            asked.wait_for_each()  # nobody waits for the new one
        assert set(asked.answers) == {1}
        gate.let_pass()
        server.wait_serving(2)
        asked.wait_for_each()
        asked.answers.clear()
    assert asked.failures == []
    assert set(asked.answers) == {2}


def test_a_generation_that_fails_to_start_never_costs_a_request(server: Server) -> None:
    server.start(
        "--readiness=notify",
        f"--path={server.path}",
        f"--readiness-timeout={NEVER}",
        prelude=server.clock.prelude,
    ).wait_serving(1)
    with clients(server) as asked:
        server.plan(exit=7)
        failed = server.restart()
        assert failed.returncode == 1
        assert "restart failed: generation" in failed.stderr
        server.plan(ready=False)
        with connect(str(server.control)) as restarting:
            restarting.sendall(b"restart\n")
            failed_again = restarting.makefile()
            while not (said := failed_again.readline()).startswith("failed "):
                server.wait_starting()
                server.skip(float(NEVER))
        assert f"was not ready within {NEVER} seconds" in said
        assert server.generations().keys() == {1}
        server.plan(ready=True)
        wait_until(lambda: _late_ones_are_given_up(server), "a later attempt")
    assert asked.failures == []
    assert asked.answers[0] == 1
    assert server.stop() == 0


def _late_ones_are_given_up(server: Server) -> bool:
    """Let the time of those be over that never say that they are ready; tell if another serves."""
    phases = {one["phase"]: one["number"] for one in server.status()["generations"]}
    late = phases.get("starting")
    if late and not server.record(late)["plan"]["ready"]:
        server.skip(float(NEVER))
    return max(server.generations()) > 1


def test_at_most_one_restart_is_under_way_and_all_that_is_asked_meanwhile_is_one_more(
    server: Server,
) -> None:
    start(server)
    gate = server.gate()
    server.plan(ready=True, gate=gate.path)
    with clients(server) as asked:
        server.signal(signal.SIGHUP)
        server.wait_for("starting new worker", times=2)
        for _ in range(50):
            server.signal(signal.SIGHUP)
        server.settle()
        gate.let_pass(times=3)
        server.wait_serving(3)
    assert server.status()["restart"] is None, "and no third one is to follow"
    assert server.generations().keys() == {3}
    assert server.said().count("starting new worker") == 3
    assert asked.failures == []


def test_a_death_and_a_term_are_acted_on_at_once_whatever_goes_on(server: Server) -> None:
    start(server, f"--readiness-timeout={NEVER}", f"--kill-old-delay={NEVER}")
    server.plan(ready=False)
    server.signal(signal.SIGHUP)  # a start that would take its time
    server.wait_for("starting new worker", times=2)
    os.kill(server.generations()[1], signal.SIGKILL)
    server.wait_for("died unexpectedly with status:9")
    assert server.stop() == 0


def test_the_listening_sockets_outlive_everything_but_a_stop(server: Server) -> None:
    start(server)
    assert server.process is not None
    with clients(server) as asked:
        os.kill(server.generations()[1], signal.SIGKILL)  # who is being answered then loses that
        server.wait_for("died unexpectedly")
        server.wait_for("starting new worker", times=2)
        server.wait_serving(2)
        asked.wait_for_each()
        lost = len(asked.failures)
        assert lost <= 2, "of each client, the answer under way"
        upgraded = server.client("--upgrade", f"--control-socket={server.control}")
        assert upgraded.returncode == 0, upgraded.stderr
        assert server.restart().returncode == 0
        assert len(asked.failures) == lost
    assert all(error.errno != errno.ECONNREFUSED for error in asked.failures)
    assert server.stop() == 0
    assert not server.path.exists()


def test_what_is_short_or_broken_around_it_is_said_and_survived(server: Server) -> None:
    full = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 2)"
    forks = "real, tries = os.fork, []\n"
    forks += "def fork():\n    tries.append(1)\n"
    forks += (  # the first one is the start's, which asks what the host says
        "    if len(tries) == 3: raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
    )
    forks += "    return real()\nos.fork = fork"
    server.start(
        "--readiness=notify", f"--path={server.path}", "--interval=0", prelude=f"{full}\n{forks}"
    ).wait_serving(1)
    server.status_file.unlink()
    server.status_file.mkdir()  # which no rename replaces
    with clients(server) as asked:
        failed = server.restart()
        assert failed.returncode == 1
        assert "fork failed" in failed.stderr
        wait_until(lambda: max(asked.answers, default=0) > 2, "the next attempt")
    assert asked.failures == []
    server.status_file.rmdir()
    assert server.restart().returncode == 0
    assert server.generations()
    assert server.stop() == 0


def test_nothing_is_deleted_that_was_not_made_here(server: Server, tmp_path: Path) -> None:
    start(server)
    letter = tmp_path / "letter"
    letter.write_text("dear")
    for path in (letter, server.path, server.control):
        refused = server.client(f"--path={path}", "--", "sleep", "60")
        assert refused.returncode == errno.EADDRINUSE, refused.stderr
    assert letter.read_text() == "dear"
    assert server.ask() == 1
    server.path.unlink()
    server.path.write_text("somebody else's by now")
    assert server.stop() == 0
    assert server.path.read_text() == "somebody else's by now"


def test_no_process_outlives_its_server(server: Server) -> None:
    start(server, "--grace=1")
    server.plan(ready=True, ignore=["SIGTERM"])
    assert server.restart().returncode == 0
    pids = list(server.generations().values())
    assert server.stop() == 0
    assert not [pid for pid in pids if alive(pid)]
