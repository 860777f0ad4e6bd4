"""Signals to start_server, and what it sends on."""

import signal
from collections.abc import Callable, Iterator

from .. import deviations as by
from ..harness import Case, Differs, Run

TERM = int(signal.SIGTERM)
STATUS = "--status-file=@DIR@/status"
# As users write them; KILL ends a worker in spite of its handler.
NAMES = ("TERM", "term", "SIGTERM", "sigTerm", "SIGQUIT", "HUP", "INT", "usr2", "SIGUSR1")
OTHER_NAMES = ("WINCH", "KILL", "IO", "15", "10", "CHLD", "RTMIN")


def cases() -> Iterator[Case]:
    for name in NAMES + OTHER_NAMES:
        # What does not end it by default, ends it by a handler.
        number = getattr(signal, f"SIG{name.upper().removeprefix('SIG')}", None)
        number = int(name) if name.isdecimal() else number
        handled = {} if name in ("KILL",) else {int(number): 33} if number else {}
        plan = {0: {"exit on": handled}}
        yield Case(f"signal-on-hup-{name}", [f"--signal-on-hup={name}", STATUS], _hup, plan=plan)
        if name in NAMES:
            yield Case(
                f"signal-on-term-{name}", [f"--signal-on-term={name}", STATUS], _term, plan=plan
            )
    for name in ("USR1", "KILL", "12"):
        yield Case(f"int-sends-term-in-spite-of-{name}", [f"--signal-on-term={name}"], _int)
    for sent in ("TERM", "INT"):
        yield from _stops(sent)
        yield from _stops_in_a_restart(sent)
        yield from _stops_in_failing_starts(sent)
    yield from _others()


def _hup(run: Run) -> None:
    if run.started():
        run.hup(2)
    run.end()


def _term(run: Run) -> None:
    run.started()
    run.end()


def _int(run: Run) -> None:
    run.wait_record()
    run.end("INT")


def _stops(sent: str) -> Iterator[Case]:
    low = sent.lower()
    files = ["--path=@DIR@/listen", "--pid-file=@DIR@/pid", STATUS]

    def serving(run: Run) -> None:
        run.wait_record()  # a signal before its exec is lost on Perl's
        run.wait_until(run.path("status").exists, "the first generation")
        run.look("serving")
        run.end(sent)

    yield Case(f"{low}-while-serving", files, serving)
    yield Case(f"{low}-while-serving-interval-1", files, serving, interval="1")

    def starting(run: Run) -> None:
        run.wait_record()
        run.end(sent)

    yield Case(f"{low}-in-the-first-interval", files, starting, interval="3")

    def stubborn(run: Run) -> None:
        run.wait_record()
        run.signal(sent)
        run.wait_for(f"received {sent}")
        run.look("stopping")
        run.signal_worker(1, "KILL")
        run.wait_end()

    plan = {0: {"ignore": [TERM]}}
    yield Case(f"{low}-and-a-worker-that-ignores-it", files, stubborn, plan=plan)

    def twice(run: Run) -> None:
        run.wait_record()
        run.signal(sent)
        run.wait_for(f"received {sent}")
        for name in ("TERM", "INT", "HUP"):
            run.signal(name)
        run.signal_worker(1, "KILL")
        run.wait_end()

    yield Case(f"{low}-then-others-have-no-effect", files, twice, plan=plan)

    def with_old(run: Run) -> None:
        run.wait_record()
        run.signal("HUP")
        run.wait_record(2)
        run.wait_for("killing old workers")
        run.signal(sent)
        run.wait_for(f"received {sent}")
        run.look("stopping", 1)
        run.signal_worker(1, "KILL")
        run.wait_end()

    yield Case(f"{low}-while-an-old-one-ends", files, with_old, plan={1: {"ignore": [TERM]}})

    def exits(run: Run) -> None:
        run.wait_record()
        run.end(sent)

    yield Case(
        f"{low}-and-a-worker-that-exits-itself", files, exits, plan={0: {"exit on": {TERM: 4}}}
    )


def _stops_in_a_restart(sent: str) -> Iterator[Case]:
    low = sent.lower()
    files = ["--path=@DIR@/listen", "--pid-file=@DIR@/pid", STATUS]

    def delayed(run: Run) -> None:
        run.wait_record()
        run.signal("HUP")
        run.wait_record(2)
        run.wait_for("sleeping 600 secs")
        run.perls_hangs()
        run.end(sent)

    yield Case(
        f"{low}-in-the-kill-old-delay",
        [*files, "--kill-old-delay=600"],
        delayed,
        deviates={
            "stuck": Differs(by.AT_ONCE, "nothing"),
            "messages": Differs(by.AT_ONCE, f"received {sent}, sending TERM to all workers"),
            "exit status": Differs(by.AT_ONCE, 0),
            "files in the end": Differs(by.AT_ONCE, []),
        },
    )

    def in_interval(run: Run) -> None:
        run.wait_until(run.path("status").exists, "the first generation")
        run.signal("HUP")
        run.wait_record(2)
        run.end(sent)

    yield Case(
        f"{low}-in-the-interval-of-a-restart",
        files,
        in_interval,
        interval="4",  # it is far from over when the second one runs
        deviates={"messages": Differs(by.AT_ONCE, f"received {sent}, sending TERM to all")},
    )


def _stops_in_failing_starts(sent: str) -> Iterator[Case]:
    def script(run: Run) -> None:
        run.wait_for("failed to start")
        run.end(sent)

    # A wait status where Perl's has not yet seen that the last one is dead.
    yield Case(
        f"{sent.lower()}-in-failing-starts",
        ["--path=@DIR@/listen", "--pid-file=@DIR@/pid", STATUS],
        script,
        plan={0: {"exit": 7}},
        interval="1",
        deviates={
            "?messages": Differs(by.AT_ONCE, f"received {sent}, sending TERM to all workers:"),
            "?generation *": Differs(by.AT_ONCE),
        },
    )


def _others() -> Iterator[Case]:
    def survives(name: str) -> Callable[[Run], None]:
        def script(run: Run) -> None:
            run.wait_record()
            run.signal(name)
            if name in ("QUIT", "KILL"):
                run.wait_end()
                return
            if name.startswith("USR"):
                does = {"USR1": "received USR1", "USR2": "upgraded"}[name]
                run.wait_until(lambda: run.over() or does in run.said(), "what it does")
            if not run.over():
                run.hup(2)
            run.end()

        return script

    for name in ("PIPE", "ALRM", "CHLD", "WINCH", "URG", "CONT"):
        yield Case(f"{name.lower()}-does-nothing", [STATUS], survives(name))
    for name in ("QUIT", "KILL"):
        yield Case(f"{name.lower()}-ends-it", [STATUS], survives(name))
    for name in ("USR1", "USR2"):
        yield Case(
            f"{name.lower()}-does-not-end-it",
            [STATUS],
            survives(name),
            deviates={
                "exit status": Differs(by.USR1, 0),
                "messages": Differs(by.USR1, "exiting"),
                "files in the end": Differs(by.USR1, []),
                "generation 2: *": Differs(by.USR1),
            },
        )
