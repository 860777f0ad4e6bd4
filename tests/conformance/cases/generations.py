"""Generations that start, fail, die, and are replaced."""

import signal
from collections.abc import Callable, Iterator
from functools import partial

from .. import deviations as by
from ..deviations import refused
from ..harness import SAYS, Case, Differs, Plan, Run

TERM, KILL, USR1, HUP = signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGHUP
ENDS = {
    "exits-0": {"exit": 0},
    "exits-1": {"exit": 1},
    "exits-7": {"exit": 7},
    "exits-255": {"exit": 255},
    "dies-by-term": {"die by": int(TERM)},
    "dies-by-kill": {"die by": int(KILL)},
    "dies-by-segv": {"die by": int(signal.SIGSEGV)},
    "dies-by-usr1": {"die by": int(USR1)},
}
PATH, STATUS = "--path=@DIR@/listen", "--status-file=@DIR@/status"


def cases() -> Iterator[Case]:
    yield from _starts()
    yield from _deaths()
    yield from _restarts()
    yield from _auto_restarts()
    yield from _programs()
    yield from _ready()
    yield from _asked_in_a_restart()
    yield from _failing()


def _first_healthy(number: int) -> Callable[[Run], None]:
    def script(run: Run) -> None:
        run.wait_record(number)
        run.wait_until(run.path("status").exists, "a generation that is taken to serve")
        run.look("serving")
        run.end()

    return script


def _restart_until(number: int) -> Callable[[Run], None]:
    def script(run: Run) -> None:
        run.wait_until(run.path("status").exists, "a generation that is taken to serve")
        run.look("before")
        run.signal("HUP")
        run.wait_for("failed to start")
        run.look("failed")
        run.wait_record(number)
        run.wait_for("old worker ")
        run.look("after", number)
        run.end()

    return script


def _starts() -> Iterator[Case]:
    for name, end in ENDS.items():
        yield Case(
            f"first-start-{name}",
            [PATH, STATUS],
            _first_healthy(2),
            plan={1: end},
            interval="1",
        )
        yield Case(
            f"restart-{name}",
            [PATH, STATUS],
            _restart_until(3),
            plan={2: end},
            interval="2",  # it is looked at before the next one is taken to serve
        )
    yield Case(
        "first-start-fails-twice",
        [STATUS],
        _first_healthy(3),
        plan={1: {"exit": 3}, 2: {"exit": 4}},
        interval="1",
    )
    for interval in ("1", "2"):
        yield Case(f"interval-{interval}", [STATUS], _takes, interval=interval)
    yield Case("interval-default", [STATUS], _takes, interval=None)


def _takes(run: Run) -> None:
    """Note whether a generation is taken to serve when it has lived for the interval."""
    interval = float(run.case.interval or 1)
    run.wait_until(run.path("status").exists, "the first generation")
    run.notes["first is taken to serve after its interval"] = run.age() >= interval
    before = run.age()
    run.signal("HUP")
    run.wait_for("now running")
    run.notes["second is taken to serve after its interval"] = run.age() - before >= interval
    run.wait_for("old worker ")
    run.end()


def _deaths() -> Iterator[Case]:
    codes: dict[str, tuple[Plan, str]] = {
        "killed": ({}, "KILL"),
        "by-term": ({}, "TERM"),
        "exits-0": ({0: {"exit on": {int(USR1): 0}}}, "USR1"),
        "exits-3": ({0: {"exit on": {int(USR1): 3}}}, "USR1"),
    }
    for name, (plan, number) in codes.items():

        def script(run: Run, number: str = number) -> None:
            run.wait_record()
            run.wait_until(run.path("status").exists, "the first generation")
            run.signal_worker(1, number)
            run.wait_record(2)
            run.look("after", 2)
            run.end()

        for interval in ("0", "1"):
            yield Case(
                f"serving-worker-{name}-interval-{interval}",
                [PATH, STATUS],
                script,
                plan=plan,
                interval=interval,
            )

    def thrice(run: Run) -> None:
        for number in (1, 2, 3):
            run.wait_record(number)
            run.wait_until(partial(_status_has, run, number), f"generation {number}")
            run.signal_worker(number, "KILL")
        run.wait_record(4)
        run.end()

    yield Case("serving-worker-dies-thrice", [STATUS], thrice, interval="1")

    def old_dies(run: Run) -> None:
        run.wait_record()
        run.signal("HUP")
        run.wait_record(2)
        run.wait_for("sleeping 600 secs")
        run.signal_worker(1, "KILL")
        run.perls_hangs()
        run.wait_for("old worker ")
        run.look("after", 2)
        run.end()

    yield Case(
        "old-worker-dies-before-its-signal",
        [STATUS, "--kill-old-delay=600"],
        old_dies,
        deviates={
            "stuck": Differs(by.DEATHS, "nothing"),
            "messages": Differs(by.DEATHS, "old worker"),
            "after: *": Differs(by.DEATHS),
            "exit status": Differs(by.DEATHS, 0),
            "files in the end": Differs(by.DEATHS, []),
        },
    )


def _status_has(run: Run, number: int) -> bool:
    file = run.path("status")
    return file.exists() and f"{number}:" in file.read_text()


def _restarts() -> Iterator[Case]:
    def times(count: int) -> Callable[[Run], None]:
        def script(run: Run) -> None:
            run.wait_record()
            run.wait_until(run.path("status").exists, "a generation that is taken to serve")
            for number in range(2, count + 2):
                run.hup(number)
                run.look(f"after {number - 1}", number)
            run.end()

        return script

    for count in (1, 2, 3, 5):
        for interval in ("0", "1") if count < 3 else ("0",):
            yield Case(
                f"hup-{count}-times-interval-{interval}",
                [PATH, STATUS, "--pid-file=@DIR@/pid"],
                times(count),
                interval=interval,
            )

    def burst(run: Run) -> None:
        run.wait_record()
        run.signal("STOP")
        for _ in range(5):
            run.signal("HUP")
        run.signal("CONT")
        run.wait_record(2)
        run.wait_for("old worker ")
        run.end()

    yield Case("hup-burst-while-stopped-is-one", [STATUS], burst)

    def stubborn(run: Run) -> None:
        run.wait_record()
        run.signal("HUP")
        run.wait_record(2)
        run.wait_for("killing old workers")
        run.look("both alive", 1, 2)
        run.signal_worker(1, "KILL")
        run.wait_for("old worker ")
        run.look("one alive", 2)
        run.end()

    yield Case("old-worker-ignores-term", [STATUS], stubborn, plan={1: {"ignore": [int(TERM)]}})

    def slow_end(run: Run) -> None:
        run.wait_record()
        run.signal("HUP")
        run.wait_record(2)
        run.wait_for("killing old workers")
        run.signal_worker(1, "USR1")
        run.wait_for("old worker ")
        run.end()

    yield Case(
        "old-worker-ends-in-its-own-time",
        [STATUS],
        slow_end,
        plan={1: {"ignore": [int(TERM)], "exit on": {int(USR1): 5}}},
    )
    for delay in (1, 2):
        yield Case(
            f"kill-old-delay-{delay}",
            [STATUS, f"--kill-old-delay={delay}"],
            partial(_delayed, delay=delay),
            plan={1: {"ignore": [int(TERM)]}},
        )


def _delayed(run: Run, delay: float) -> None:
    """Note whether the old generation lives on beside the new one for that long."""
    run.wait_record()
    before = run.age()
    run.signal("HUP")
    run.wait_for("now running")
    run.look("both alive", 1, 2)
    run.wait_for("\nkilling old workers")
    run.notes["old worker is signalled after the delay"] = run.age() - before >= delay
    run.signal_worker(1, "KILL")
    run.wait_for("old worker ")
    run.look("one alive", 2)
    run.end()


def _auto_restarts() -> Iterator[Case]:
    def once(run: Run) -> None:
        run.wait_record()
        run.wait_record(2)
        run.wait_for("old worker ")
        run.look("after", 2)
        run.end()

    # The interval is twenty times what is looked at in it takes on an idle machine.
    enable, every = "--enable-auto-restart", "--auto-restart-interval=5"
    yield Case("auto-restart", [enable, every, "--kill-old-delay=0", STATUS], once)
    delayed = ["--auto-restart-interval=6", "--kill-old-delay=1"]
    yield Case("auto-restart-delayed", [enable, *delayed, STATUS], once)

    def variables(seconds: int) -> dict[str, str]:
        return {
            "ENABLE_AUTO_RESTART": "1",
            "AUTO_RESTART_INTERVAL": str(seconds),
            "KILL_OLD_DELAY": "0",
        }

    def files(seconds: int) -> dict[str, str]:
        return {f"env/{name}": value for name, value in variables(seconds).items()}

    yield Case("auto-restart-by-environment", [STATUS], once, env=variables(5))
    yield Case("auto-restart-by-envdir", ["--envdir=@DIR@/env", STATUS], once, files=files(5))

    def put_off(run: Run) -> None:
        run.wait_record()
        run.hup(2)
        run.wait_record(3)
        run.wait_for("old worker ", 2)
        run.end()

    yield Case("auto-restart-after-hup", [enable, every, "--kill-old-delay=0"], put_off)

    def switched(run: Run) -> None:
        run.wait_record()
        for name, value in variables(1).items():
            run.path(f"env/{name}").write_text(value)
        run.hup(2)
        run.perls_hangs()
        run.wait_record(3)
        run.wait_for("old worker ", 2)
        run.end()

    yield Case(
        "auto-restart-switched-on-by-envdir",
        ["--envdir=@DIR@/env"],
        switched,
        files={"env/A": "1"},
        deviates={
            "stuck": Differs(by.SWITCHED_ON, "nothing"),
            "messages": Differs(by.SWITCHED_ON, r"autorestart triggered \(interval=1\)"),
            "exit status": Differs(by.SWITCHED_ON, 0),
            "generation 3: *": Differs(by.SWITCHED_ON),
            "?generation *": Differs(by.SWITCHED_ON),  # of a busy machine, where a second goes by
        },
    )

    def switched_off(run: Run) -> None:
        run.wait_record(2)
        run.wait_for("old worker ")
        run.path("env/ENABLE_AUTO_RESTART").write_text("0")
        run.hup(3)
        run.leave_alone(4.5)
        run.end()

    yield Case(
        "auto-restart-switched-off-by-envdir", ["--envdir=@DIR@/env"], switched_off, files=files(4)
    )


def _programs() -> Iterator[Case]:
    yield Case("dir", ["--dir=@DIR@/work"], files={"work/x": ""})
    yield Case("dir-relative", ["--dir=work"], files={"work/x": ""})
    yield Case(
        "dir-does-not-move-start-server",
        ["--dir=work", "--pid-file=pid", "--status-file=status", "--path=listen"],
        files={"work/x": ""},
    )
    yield Case(
        "program-relative-to-dir", ["--dir=@DIR@/work"], program=["../run"], files={"work/x": ""}
    )
    yield Case("program-of-many-words-is-no-shell", program=["@RUN@", ";", "touch", "x", "&&", "a"])
    yield Case("program-alone-is-no-shell", program=["@RUN@"])
    yield Case("child-says-something", plan={0: {"say": SAYS}})
    yield Case(
        "pipe-is-ignored-in-the-child",
        script=_sees,
        program=[
            "sh",
            "-c",
            "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status; exec @RUN@",
        ],
    )
    yield Case(
        "no-fd-leaks",
        ["--pid-file=pid", "--status-file=status", "--port=@P1@", PATH],
        script=_sees,
        program=["sh", "-c", "ls /proc/self/fd | wc -l; exec @RUN@"],
    )


def _sees(run: Run) -> None:
    run.wait_record()
    run.end()


def _ready() -> Iterator[Case]:
    ready = {0: {"ready": True}}

    def heard(run: Run) -> None:
        run.wait_record()
        run.perls_hangs()
        run.wait_until(run.path("status").exists, "the first generation")
        run.hup(2)
        run.end()

    yield Case(
        "ready-is-heard",
        [STATUS],
        heard,
        plan=ready,
        interval="600",
        deviates={
            "stuck": Differs(by.READY, "nothing"),
            "messages": Differs(by.READY, "now running"),
            "generation 2: *": Differs(by.READY),
            "exit status": Differs(by.READY, 0),
        },
    )

    def restarted(run: Run) -> None:
        run.look("first", 1)
        run.hup(2)
        run.end()

    yield Case(
        "ready-needs-no-delay",
        [STATUS, "--enable-auto-restart"],
        restarted,
        plan=ready,
        interval="1",
        deviates={"messages": Differs(by.READY, "killing old workers")},
    )


def _asked_in_a_restart() -> Iterator[Case]:
    def twice_stubborn(run: Run) -> None:
        run.wait_record()
        run.signal("HUP")
        run.wait_record(2)
        run.wait_for("killing old workers")
        run.signal("HUP")
        run.wait_until(lambda: 3 in run.generations() or _folds(run), "one more, now or later")
        run.look("one that does not end")
        run.signal_worker(1, "KILL")
        run.wait_record(3)
        run.wait_for("old worker ", 2)
        run.look("after", 3)
        run.end()

    yield Case(
        "hup-while-the-old-one-ends",
        [STATUS],
        twice_stubborn,
        plan={1: {"ignore": [int(TERM)]}},
        deviates={
            "messages": Differs(by.ONE_AT_A_TIME, "old worker <worker 2> died"),
            "one that does not end: status file": Differs(by.ONE_AT_A_TIME, "1:.*\n2:.*\n$"),
        },
    )

    def early(run: Run) -> None:
        run.wait_record()
        run.signal("HUP")
        run.wait_record(2)
        run.wait_for("old worker ")
        run.look("after", 2)
        run.end()

    yield Case(
        "hup-in-the-first-interval",
        [STATUS],
        early,
        interval="2",
        deviates={"?messages": Differs(by.ONE_AT_A_TIME)},
    )

    def many(run: Run) -> None:
        run.wait_record()
        for number in (2, 3, 4, 5):
            run.signal("HUP")
            run.wait_until(lambda: run.record_of(number) or _folds(run), f"{number}")  # noqa: B023
            run.wait_heard()
        run.signal_worker(1, "KILL")
        run.wait_record(3)
        run.wait_for("old worker ", 2)
        run.leave_alone(1)
        run.end()

    yield Case(
        "hups-in-a-restart-fold",
        [STATUS],
        many,
        plan={1: {"ignore": [int(TERM)]}},
        deviates={
            "messages": Differs(by.ONE_AT_A_TIME, "sending TERM to all workers:<worker 3>$"),
            "generation *": Differs(by.ONE_AT_A_TIME, "nothing"),
        },
    )

    def forced(run: Run) -> None:
        run.wait_record(2)
        run.comes_with_perls(lambda: run.record_of(3))
        run.signal_worker(1, "KILL")
        run.wait_record(3)
        run.wait_for("old worker ")
        run.end()

    yield Case(
        "auto-restart-forced",
        ["--enable-auto-restart", "--auto-restart-interval=1", "--kill-old-delay=0"],
        forced,
        plan={1: {"ignore": [int(TERM)]}},
        deviates={
            "messages": Differs(by.ONE_AT_A_TIME, r"autorestart triggered \(interval=1\)"),
            "?generation *": Differs(by.ONE_AT_A_TIME),
        },
    )


def _folds(run: Run) -> bool:
    return "one more will follow" in run.said()


def _failing() -> Iterator[Case]:
    dying = {2: {"exit": 3}}
    yield Case(
        "restart-fails-with-interval-0",
        [STATUS],
        _until_healthy,
        plan=dying,
        deviates={"?messages": Differs(by.DEATHS), "?after: *": Differs(by.DEATHS)},
    )
    for name, program, text, status in (
        ("missing", ["@DIR@/none"], "none", 2),
        ("missing-on-path", ["no-such-program-anywhere"], "no-such-program-anywhere", 2),
        ("not-executable", ["@DIR@/file"], "file", 13),
        ("is-a-directory", ["@DIR@/work"], "work", 13),
        ("empty", [""], "", 13),
    ):
        yield Case(
            f"program-{name}",
            ["--path=@DIR@/listen"],
            _tries,
            program=program,
            files={"file": "#!/bin/sh\n", "work/x": ""},
            interval="1",
            deviates=refused(by.PROGRAM, text, status),
        )
    for name, directory, status in (
        ("missing", "none", 2),
        ("is-a-file", "file", 20),
        ("empty", "", 2),
    ):
        yield Case(
            f"dir-{name}",
            ["--path=@DIR@/listen", "--dir", directory],
            _tries,
            files={"file": ""},
            interval="1",
            deviates=refused(by.PROGRAM, directory, status),
        )

    def vanishes(run: Run) -> None:
        run.wait_until(run.path("status").exists, "the first generation")
        run.path("program").rename(run.path("moved"))
        run.signal("HUP")
        run.wait_for("failed to start")
        run.path("moved").rename(run.path("program"))
        run.wait_for("old worker ")
        run.end()

    yield Case(
        "program-vanishes",
        [STATUS],
        vanishes,
        program=["@DIR@/program"],
        prelude=lambda run: run.path("program").symlink_to("run"),
        interval="1",
        deviates={
            "messages": Differs(by.EXEC, "failed to exec <directory>/program:"),
            "?generation *": Differs(by.EXEC),
        },
    )


def _until_healthy(run: Run) -> None:
    run.wait_record()
    run.signal("HUP")
    run.wait_record(3)
    run.wait_for("old worker ")
    run.end()


def _tries(run: Run) -> None:
    """See that it is refused, or tried a second time."""
    run.wait_until(
        lambda: run.over() or run.said().count("starting new worker") > 1,
        "a second try, or the end",
    )
    run.end()
