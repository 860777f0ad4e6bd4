"""The command line: names, values, order, errors."""

import random
from collections.abc import Iterator, Sequence

from .. import deviations as by
from ..deviations import refused
from ..harness import Case, Differs, Run, serve

# A value for each option that takes one, and which makes a difference that is seen.
VALUES = {
    "port": "127.0.0.1:@P2@",
    "path": "@DIR@/listen",
    "interval": "0",
    "log-file": "@DIR@/log",
    "pid-file": "@DIR@/pid",
    "dir": "@DIR@/work",
    "signal-on-hup": "USR1",
    "signal-on-term": "USR2",
    "backlog": "7",
    "envdir": "@DIR@/env",
    "auto-restart-interval": "77",
    "kill-old-delay": "0",
    "status-file": "@DIR@/status",
}
INTEGERS = ("interval", "backlog", "auto-restart-interval", "kill-old-delay")
FLAGS = ("enable-auto-restart", "daemonize", "restart", "stop", "help", "version")
ALL = (*VALUES, *FLAGS)
FILES = {"work/x": "", "env/FROM_FILE": "1"}
# Numbers that are taken, or refused as no number.
NUMBERS = {
    "plain": "7",
    "zero": "0",
    "leading-zeros": "007",
    "plus": "+7",
    "underscores": "1_000",
    "underscore-first": "_1",
    "underscore-last": "1_",
    "space-first": " 7",
    "space-last": "7 ",
    "newline": "7\n",
    "decimal": "7.0",
    "hexadecimal": "0x7",
    "exponent": "1e2",
    "word": "abc",
    "sign-alone": "-",
    "other-digits": "\u0663",
    "double-dash": "--",
}


def abbreviation(name: str) -> str:
    """Return the shortest abbreviation that means this option alone."""
    for length in range(1, len(name)):
        if sum(other.startswith(name[:length]) for other in ALL) == 1:
            return name[:length]
    return name


def spellings(name: str, value: str) -> dict[str, list[str]]:
    return {
        "equals": [f"--{name}={value}"],
        "two-words": [f"--{name}", value],
        "one-dash": [f"-{name}={value}"],
        "one-dash-two-words": [f"-{name}", value],
        "plus": [f"+{name}={value}"],
        "plus-two-words": [f"+{name}", value],
        "upper-case": [f"--{name.upper()}={value}"],
        "abbreviated": [f"--{abbreviation(name)}={value}"],
    }


def restart_and_stop(run: Run) -> None:
    """Restart it once: what differs between the two is seen too."""
    if run.started():
        run.look("serving")
        run.hup(2)
        run.look("restarted")
    run.end()


def clients_alone(id_: str, argv: Sequence[Sequence[str]], **more: object) -> Case:
    """Return a case of some commands that end by themselves."""

    def script(run: Run) -> None:
        for number, words in enumerate(argv):
            run.client(f"{number} {words}", *words)

    return Case(id_, script=script, starts=False, **more)  # type: ignore[arg-type]


def line(id_: str, words: Sequence[str], **more: object) -> Case:
    """Return a case of a whole command line."""
    return Case(id_, words, verbatim=True, files=FILES, **more)  # type: ignore[arg-type]


def cases() -> Iterator[Case]:
    yield from _spelled()
    for spelling in ("--enable-auto-restart", "-enable-auto-restart", "+Enable-Auto-Restart"):
        yield Case(f"option{spelling}", [spelling])
    yield from _prefixes()
    yield from _numbers()
    yield from _lines()
    yield from _refused()
    yield from _random()
    yield from _deviating()


def _spelled() -> Iterator[Case]:
    port = "--port=127.0.0.1:@P1@"
    for name, value in VALUES.items():
        script = restart_and_stop if name.startswith("signal") else serve
        words = [port, *spellings(name, value)["abbreviated"]]
        yield Case(f"option-{name}-abbreviated", words, script, files=FILES)
    # All of them at once, in each spelling; without a log file, so that the messages are compared.
    every = {name: value for name, value in VALUES.items() if name != "log-file"}
    for spelling in spellings("", ""):
        words = [port]
        for name, value in every.items():
            words += spellings(name, value)[spelling]
        yield Case(f"all-options-{spelling}", words, restart_and_stop, files=FILES)


def _prefixes() -> Iterator[Case]:
    seen = set(ALL)
    for name in ALL:
        prefixes = {name[:length] for length in (1, 2, 3, 4, len(name) - 1)} - seen
        seen |= prefixes
        argv = [[f"--{prefix}=1", "--version"] for prefix in sorted(prefixes)]
        yield clients_alone(f"abbreviations-of-{name}", argv)


def _numbers() -> Iterator[Case]:
    for name, value in NUMBERS.items():
        yield line(
            f"number-{name}",
            ["--interval=0", f"--auto-restart-interval={value}", "--", "@RUN@"],
        )
    for option in INTEGERS:
        wrong = ("0.5", "abc", "1e3", "--", "") if option == "interval" else ("abc",)
        argv = [[f"--{option}", value, "--version"] for value in wrong]
        argv += [[f"--{option}={value}", "--version"] for value in wrong]
        yield clients_alone(f"wrong-numbers-{option}", argv)


def _lines() -> Iterator[Case]:
    now = "--interval=0"
    port, other = "--port=127.0.0.1:@P1@", "--port=127.0.0.1:@P2@"
    table = {
        "program-without-double-dash": [now, "@RUN@", "a", "b"],
        "options-after-program": ["@RUN@", now, "a", port, "b"],
        "double-dash-after-program": [now, "@RUN@", "--", port],
        "double-dash-twice": [now, "--", "@RUN@", port, "--", "-x", "+x"],
        "dash-alone-is-an-argument": [now, "@RUN@", "-", "a"],
        "program-gets-odd-arguments": [now, "--", "@RUN@", "", "a b", "*", "$HOME", "\u00e9", "\n"],
        "last-scalar-wins": ["--interval=9", now, "--dir=@DIR@", "--dir=@DIR@/work", "@RUN@"],
        "ports-and-paths-add-up": [
            now,
            "--path=@DIR@/b",
            port,
            "--path",
            "@DIR@/a",
            other,
            "@RUN@",
        ],
        "empty-pid-file": [now, "--pid-file", "", "@RUN@"],
        "empty-status-file": [now, "--status-file", "", "@RUN@"],
        "empty-log-file": [now, "--log-file", "", "@RUN@"],
        "empty-envdir": [now, "--envdir", "", "@RUN@"],
        "empty-signal-on-hup": [now, "--signal-on-hup", "", "@RUN@"],
        "empty-signal-on-term": [now, "--signal-on-term", "", "@RUN@"],
        "empty-port": [now, "--port", "", "@RUN@"],
        "value-with-equals": [now, "--pid-file=a=b", "@RUN@"],
        "value-that-looks-like-an-option": [now, "--pid-file", "--port", "@RUN@"],
        "zero-backlog": [now, port, "--backlog=0", "@RUN@"],
        "relative-program-on-path": [now, "--", "env", "-u", "X", "@RUN@"],
        "flag-twice": [now, "--enable-auto-restart", "--enable-auto-restart", "@RUN@"],
    }
    for name, words in table.items():
        restarts = "signal-on-hup" in name
        yield line(f"line-{name}", words, script=restart_and_stop if restarts else serve)


def _refused() -> Iterator[Case]:
    table = {
        "nothing": [],
        "options-alone": ["--port=127.0.0.1:@P1@"],
        "double-dash-alone": ["--interval=0", "--"],
        "unknown": ["--foo", "@RUN@"],
        "unknown-upper-case": ["--Foo=Bar", "@RUN@"],
        "unknown-after-program": ["@RUN@", "--foo"],
        "unknown-short": ["@RUN@", "-x"],
        "unknown-plus": ["@RUN@", "+x"],
        "unknown-several": ["--foo", "-x", "--port", "1", "--bar"],
        "plus-alone": ["@RUN@", "+"],
        "three-dashes": ["---port=1", "@RUN@"],
        "equals-alone": ["--=1", "@RUN@"],
        "dash-equals-alone": ["-=1", "@RUN@"],
        "negated-flag": ["--no-enable-auto-restart", "@RUN@"],
        "negated-flag-in-one": ["--noenable-auto-restart", "@RUN@"],
        "unknown-and-help": ["--help", "--foo"],
        "unknown-and-version": ["--version", "--foo"],
        "daemonize-without-log-file": ["--daemonize", "@RUN@"],
        "daemonize-without-log-file-and-program": ["--daemonize"],
        "daemonize-with-empty-log-file": ["--daemonize", "--log-file="],
        "restart-before-stop": ["--stop", "--restart", "--pid-file=a", "--status-file=b"],
        "restart-before-daemonize": ["--daemonize", "--restart", "--pid-file=a", "--status-file=b"],
        "stop-before-daemonize": ["--daemonize", "--stop"],
        "stop-with-program": ["--stop", "@RUN@"],
        "version": ["--version"],
        "version-short": ["-v"],
        "version-and-program": ["--version", "@RUN@"],
        "version-before-restart": ["--restart", "--version"],
        "version-before-stop": ["--stop", "--version"],
        "version-before-daemonize": ["--daemonize", "--version"],
        "wrong-values-in-a-row": ["--interval=x", "--dir=", "--stop=1", "--p=1", "--backlog"],
    }
    for name, words in table.items():
        yield line(f"refused-{name}", words)
    for name in FLAGS:
        argv = [[f"--{name}="], [f"--{abbreviation(name).upper()}=1"]]
        yield clients_alone(f"refused-value-for-{name}", argv)
    for name in VALUES:
        argv = [["a", f"-{name.upper()}"], [f"--{name}="]]
        yield clients_alone(f"refused-without-value-{name}", argv)


# Pieces of random command lines; each is right or wrong by itself.
_RIGHT = (
    ["--interval=0"],
    ["--int", "0"],
    ["-INTERVAL", "0"],
    ["--port=127.0.0.1:@P1@"],
    ["--po", "u@P2@"],
    ["+port=[::1]:@P3@"],
    ["--port=localhost:@P4@=9"],
    ["--path=@DIR@/a"],
    ["--pat", "b"],
    ["--dir=@DIR@/work"],
    ["--d", "@DIR@/work"],
    ["--env=@DIR@/env"],
    ["-envdir", "@DIR@/env"],
    ["--pid-file=pid"],
    ["--pi", "@DIR@/pid"],
    ["--status-file=@DIR@/status"],
    ["--backlog", "5"],
    ["--b=+12"],
    ["--kill-old-delay=0"],
    ["--k", "00"],
    ["--auto=12"],
    ["--enable"],
    ["word"],
    ["-"],
)
_WRONG = (
    ["--p=1"],
    ["--wrong"],
    ["--interval=x"],
    ["--backlog="],
    ["--enable=1"],
    ["--signal-on"],
    ["--s"],
    ["+"],
)


def _random() -> Iterator[Case]:
    for number in range(20):
        # The same each time: it is a table that nobody wants to write.
        dice = random.Random(f"command line {number}")
        pieces = dice.sample(_RIGHT, dice.randint(2, 7))
        if dice.random() < 0.3:
            pieces.insert(dice.randrange(len(pieces)), dice.choice(_WRONG))
        words = ["--interval=0", "@RUN@"]
        for piece in pieces:
            words += piece
        yield line(f"random-{number}", words)


def _deviating() -> Iterator[Case]:
    now = "--interval=0"
    yield line("help", ["--help"], deviates={"stdout": Differs(by.HELP, "--control-socket")})
    yield line("status-with-a-value", [now, "--status=@DIR@/status", "@RUN@"])
    yield line(
        "status-and-a-file",
        [now, "--status", "@DIR@/status", "@RUN@"],
        deviates=refused(by.STATUS, "--status option requires", 255),
    )
    posix = {"POSIXLY_CORRECT": "1"}
    yield line(
        "posixly-correct-abbreviation",
        [now, "--por=127.0.0.1:@P1@", "@RUN@"],
        env=posix,
        deviates={
            "exit status": Differs(by.POSIX, 0),
            "messages": Differs(by.POSIX, "starting new worker"),
            "?generation *": Differs(by.POSIX),
            "?serving: *": Differs(by.POSIX),
        },
    )
    for name in INTEGERS:
        yield line(
            f"negative-{name}",
            [now, f"--{name}=-1", "@RUN@"],
            deviates=refused(by.OUT_OF_RANGE, f"--{name}: ?-1 is too small", 1),
        )
        yield line(
            f"too-large-{name}",
            [now, f"--{name}=2_000_000_000", "@RUN@"],
            deviates=refused(by.OUT_OF_RANGE, f"--{name}: ?2e[+]09 is too much", 1),
        )
    for name in ("NOPE", "99", "0", "TERM "):
        for option in ("signal-on-hup", "signal-on-term"):
            yield line(
                f"{option}-wrong-{name.strip()}{'-space' * name.endswith(' ')}",
                [now, f"--{option}={name}", "--port=127.0.0.1:@P1@", "@RUN@"],
                deviates=refused(by.SIGNALS, f"--{option}:.*{name}.*is not a signal", 1),
            )
    for files in ([], ["--pid-file=a"], ["--status-file=a"]):
        yield line(
            f"restart-without-{len(files)}-{''.join(files)}",
            ["--restart", *files],
            deviates={"messages": Differs(by.CONTROL, "requires --control-socket, or --pid-file")},
        )
