"""--log-file and --daemonize."""

from collections.abc import Iterator

from .. import deviations as by
from ..harness import SAYS, Case, Differs, Run, serve

LOG = "--log-file=@DIR@/log"
TALKS = {0: {"say": SAYS}}


def cases() -> Iterator[Case]:
    yield Case("log-file", [LOG], plan=TALKS)
    yield Case("log-file-is-appended-to", [LOG], plan=TALKS, files={"log": "before\n"})
    yield Case("log-file-relative", ["--log-file=log"], plan=TALKS)
    yield Case("log-file-in-no-directory", ["--log-file=@DIR@/none/log", "--path=@DIR@/listen"])
    yield Case("log-file-is-a-directory", ["--log-file=@DIR@/work"], files={"work/x": ""})
    left_over = {
        "exit status": Differs(by.LEFT_OVER, 255),
        "files in the end": Differs(by.CHECKED, []),
        "log": Differs(by.CHECKED, "nothing"),
    }
    yield Case("log-file-and-a-port-that-is-wrong", [LOG, "--port=x"], deviates=left_over)
    yield Case("log-file-over-a-restart", [LOG, "--status-file=@DIR@/status"], _restart, plan=TALKS)
    for name, form in (("pipe", "|cat >> @DIR@/log"), ("pipe-spaces", "  |  cat >> @DIR@/log")):
        yield Case(f"log-file-{name}", [f"--log-file={form}"], _piped, plan=TALKS)
    yield from _daemonized()


def _restart(run: Run) -> None:
    run.wait_record()
    run.hup(2)
    run.end()


def _piped(run: Run) -> None:
    run.wait_record()
    run.end()
    run.wait_for("exiting")


def _daemonized() -> Iterator[Case]:
    options = ["--daemonize", LOG, "--pid-file=@DIR@/pid", "--status-file=@DIR@/status"]
    pid = {"messages": Differs(by.DAEMON_PID, r"start_server \(pid:<daemon>\) starting now")}
    for name, more in (
        ("alone", []),
        ("with-path", ["--path=@DIR@/listen"]),
        ("keeps-the-directory", ["--path=listen"]),
        ("and-stdin-as-listener", ["--port=@P1@=0"]),
    ):
        yield Case(f"daemonize-{name}", [*options, *more], daemon, plan=TALKS, deviates=pid)
    yield Case(
        "daemonize-refused-before-it-forks",
        [*options, "--port=x"],
        serve,
        deviates={
            "exit status": Differs(by.LEFT_OVER, 255),
            "files in the end": Differs(by.CHECKED, []),
            "log": Differs(by.CHECKED, "nothing"),
        },
    )


def daemon(run: Run) -> None:
    """Let it go into the background, restart it there, and stop it."""
    run.wait_end()
    record = run.wait_record()
    run.wait_until(run.path("pid").exists, "the pid file")
    run.wait_until(lambda: run.path("pid").read_text().strip(), "a pid in it")
    server = int(run.path("pid").read_text())
    run.follow(server)
    run.notes["worker is the daemon's child"] = record["parent"] == server
    run.notes["daemon leads its session"] = record["session"] == server
    run.wait_until(run.path("status").exists, "the first generation")
    run.look("serving")
    run.hup(2)
    run.signal("TERM")
    run.wait_for("exiting")
    run.wait_until(lambda: not run.alive(), "the daemon's end")
