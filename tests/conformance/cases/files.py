"""pid and status files, and the commands that go by them: --restart, --stop."""

import signal
from collections.abc import Callable, Iterator

from .. import deviations as by
from ..harness import Case, Differs, Run, serve

TERM = int(signal.SIGTERM)
PID, STATUS = "--pid-file=@DIR@/pid", "--status-file=@DIR@/status"


def cases() -> Iterator[Case]:
    yield from _files()
    yield from _restart()
    yield from _stop()


def _files() -> Iterator[Case]:
    yield Case("pid-file", [PID], _modes)
    yield Case("status-file", [STATUS], _modes)
    yield Case("pid-and-status-file", [PID, STATUS], _modes)
    yield Case("pid-file-relative", ["--pid-file=pid"])
    yield Case("pid-file-of-a-dead-server", [PID], files={"pid": "123456789\nmore\n"})
    yield Case("pid-file-in-no-directory", ["--pid-file=@DIR@/none/pid", "--path=@DIR@/listen"])
    yield Case("pid-file-is-a-directory", ["--pid-file=@DIR@/work"], files={"work/x": ""})
    yield Case("status-file-of-a-dead-server", [STATUS], files={"status": "9:123\n"})
    yield Case("status-file-stays-in-a-refused-start", [STATUS, "--port=x"], files={"status": "x"})
    yield Case("pid-file-stays-in-a-refused-start", [PID, "--port=x"], files={"pid": "x"})


def _modes(run: Run) -> None:
    run.wait_record()
    for name in ("pid", "status"):
        if any(name in option for option in run.case.options):
            run.wait_until(run.path(name).exists, f"the {name} file")
            run.notes[f"{name} file: mode"] = run.path(name).stat().st_mode
    serve(run)


BY_FILES = (PID, STATUS)


def _restart() -> Iterator[Case]:
    def restart(run: Run) -> None:
        run.wait_record()
        run.look("first", 1)
        run.client("restart", "--restart", *BY_FILES)
        run.look("restarted", 2)
        run.wait_record(2)
        run.end()

    yield Case("restart-by-files", BY_FILES, restart)
    yield Case("restart-by-files-interval-1", BY_FILES, restart, interval="1")

    def twice(run: Run) -> None:
        run.wait_record()
        run.look("first", 1)
        run.client("restart", "--restart", *BY_FILES)
        run.wait_record(2)  # which it may not have written when it is ended already
        run.client("restart again", "--restart", *BY_FILES)
        run.wait_record(3)
        run.look("restarted", 3)
        run.end()

    yield Case("restart-by-files-twice", BY_FILES, twice)

    def waits(run: Run) -> None:
        run.wait_record()
        run.look("first", 1)
        client = run.begin_client("--restart", *BY_FILES)
        run.wait_record(2)
        run.wait_for("killing old workers")
        run.notes["waits for the old one"] = not run.holds_within(
            lambda: client.poll() is not None, 2
        )
        run.signal_worker(1, "KILL")
        run.outcome("restart", client)
        run.look("restarted", 2)
        run.end()

    stubborn = {1: {"ignore": [TERM]}}
    yield Case("restart-waits-for-the-old-generation", BY_FILES, waits, plan=stubborn)

    def nobody(*options: str) -> Callable[[Run], None]:
        def script(run: Run) -> None:
            run.client("restart", "--restart", *options)

        return script

    table: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "no-such-pid-file": (BY_FILES, {"status": "1:1\n"}),
        "no-such-status-file": (BY_FILES, {"pid": "999999999\n"}),
        "status-file-empty": (BY_FILES, {"pid": "999999999\n", "status": ""}),
        "server-is-dead": (BY_FILES, {"pid": "999999999\n", "status": "1:1\n"}),
    }
    for name, (options, files) in table.items():
        deviates = {
            "restart: stderr": Differs(by.HELD, "no server holds it"),
            "?restart: exit status": Differs(by.HELD, 3),
        }
        yield Case(
            f"restart-{name}",
            script=nobody(*options),
            files=files,
            starts=False,
            deviates=deviates if "pid" in files else {},
        )


def _stop() -> Iterator[Case]:
    def stop(run: Run) -> None:
        run.wait_until(run.path("pid").exists, "the pid file")
        run.wait_record()
        run.client("stop", "--stop", PID)
        run.wait_end()
        run.look("stopped")

    yield Case("stop-by-pid-file", [*BY_FILES, "--path=@DIR@/listen"], stop)
    yield Case("stop-sends-signal-on-term", [*BY_FILES, "--signal-on-term=USR1"], stop)

    def waits(run: Run) -> None:
        run.wait_record()
        run.look("first", 1)
        client = run.begin_client("--stop", PID)
        run.wait_for("received TERM")
        run.notes["waits for the end"] = not run.holds_within(lambda: client.poll() is not None, 1)
        run.signal_worker(1, "KILL")
        run.outcome("stop", client)
        run.wait_end()

    yield Case("stop-waits-for-the-end", BY_FILES, waits, plan={0: {"ignore": [TERM]}})

    def nobody(*options: str) -> Callable[[Run], None]:
        def script(run: Run) -> None:
            run.client("stop", "--stop", *options)

        return script

    table: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "without-pid-file": ((), {}),
        "no-such-pid-file": ((PID,), {}),
        "server-is-dead": ((PID,), {"pid": "999999999\n"}),
    }
    for name, (options, files) in table.items():
        deviates = {"stop: stderr": Differs(by.HELD, "no server holds it")} if files else {}
        yield Case(
            f"stop-{name}",
            script=nobody(*options),
            files=files,
            starts=False,
            deviates=deviates,
        )

    def second(run: Run) -> None:
        run.wait_record()
        run.wait_until(run.path("pid").exists, "the pid file")
        run.perls_hangs()
        run.client("second", PID, "--interval=0", "--", "sleep", "9")
        run.look("after the second one")
        run.end()

    yield Case(
        "second-server-with-the-same-pid-file",
        [PID],
        second,
        deviates={
            "stuck": Differs(by.SECOND, "nothing"),
            "second: exit status": Differs(by.SECOND, 11),
            "second: stderr": Differs(by.SECOND, "held by another server"),
            "?second: stdout": Differs(by.SECOND),
            "after the second one: *": Differs(by.SECOND),
            "exit status": Differs(by.SECOND, 0),
            "messages": Differs(by.SECOND),
            "files in the end": Differs(by.SECOND),
        },
    )
