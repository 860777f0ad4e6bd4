"""What workers find in their environment, and which value of a variable counts."""

import itertools
import os
from collections.abc import Callable, Iterator

from .. import deviations as by
from ..deviations import refused
from ..harness import Case, Differs, Run, perl_keeps_equals, perl_may_hang, serve

ENVDIR = "--envdir=@DIR@/env"
DELAY, ENABLE, EVERY = "KILL_OLD_DELAY", "ENABLE_AUTO_RESTART", "AUTO_RESTART_INTERVAL"
# For each variable: its option, and a value from the envdir, the command line and the environment.
SOURCES = {
    DELAY: ("--kill-old-delay={}", ("0", "00", "000")),
    EVERY: ("--auto-restart-interval={}", ("1001", "1002", "1003")),
    ENABLE: ("--enable-auto-restart", ("yes", "1", "on")),
}
# First lines of envdir files, as bytes.
VALUES = {
    "plain": b"value",
    "newline": b"value\n",
    "two-lines": b"value\nsecond\n",
    "carriage-return": b"value\r\n",
    "empty": b"",
    "empty-line": b"\n",
    "empty-first-line": b"\nsecond",
    "spaces": b"  a b  ",
    "tab-last": b"value\t\n",
    "equals": b"a=b=c\n",
    "utf-8": "\u00e9\u3042\n".encode(),
    "not-utf-8": b"\xff\xfe\n",
    "nul": b"a\0b\n",
    "long": b"x" * 100_000 + b"\n",
    "zero": b"0\n",
}
NAMES = ("lower", "WITH-DASH", "WITH SPACE", "1DIGIT", "DOT.ED", ".DOT", "\u00c9", "A=B", "_")
TRUTH = ("", "0", "1", "00", "0.0", "no", " ", "0 ")


def cases() -> Iterator[Case]:
    yield from _precedence()
    yield from _effects()
    yield from _envdir()
    yield from _changes()
    yield from _inherited()
    yield from _deviating()


def _precedence() -> Iterator[Case]:
    for name, (option, (in_file, on_line, in_env)) in SOURCES.items():
        for file, given, set_ in itertools.product((False, True), repeat=3):
            id_ = "-".join(
                [name.lower()]
                + ["file"] * file + ["option"] * given + ["environment"] * set_
            )  # fmt: skip
            yield Case(
                f"precedence-{id_}",
                [ENVDIR] + [option.format(on_line)] * given,
                env={name: in_env} if set_ else {},
                files={"env/OTHER": "1"} | ({f"env/{name}": in_file} if file else {}),
            )
    directories = {f"env{number}/WHICH": str(number) for number in (1, 2, 3)}
    for file, given, set_ in itertools.product((False, True), repeat=3):
        id_ = "-".join(["envdir"] + ["file"] * file + ["option"] * given + ["environment"] * set_)
        also = {f"env{number}/ENVDIR": "@DIR@/env1" for number in (2, 3)} if file else {}
        yield Case(
            f"precedence-{id_}",
            ["--envdir=@DIR@/env2"] * given,
            script=restart_once,
            env={"ENVDIR": "@DIR@/env3"} if set_ else {},
            files=directories | also,
            deviates={"generation 2: WHICH": Differs(by.REDIRECT)}
            if file and (given or set_)
            else {},
        )


def restart_once(run: Run) -> None:
    if run.started():
        run.hup(2)
    run.end()


def _effects() -> Iterator[Case]:
    for value in TRUTH:
        name = repr(value).strip("'").replace(" ", "space") or "empty"
        yield Case(f"truth-{name}-enables", [], restart_once, env={ENABLE: value})
        yield Case(
            f"truth-{name}-enables-in-envdir",
            [ENVDIR, "--kill-old-delay=1"],
            restart_once,
            files={f"env/{ENABLE}": value},
        )
    for value in ("", "0"):
        yield Case(
            f"interval-of-{value or 'nothing'}-is-360",
            ["--enable-auto-restart", "--kill-old-delay=0"],
            restart_once,
            env={EVERY: value},
        )
    for value in ("", "0", "0.5", "1", "2", "00", "01", " 1"):
        name = repr(value).strip("'").replace(" ", "space") or "empty"
        plain = {"messages": Differs(by.PLAIN_NUMBERS, "sleeping 1 secs")}
        deviates = plain if value in ("01", " 1") else {}
        yield Case(f"delay-{name}", [], restart_once, env={DELAY: value}, deviates=deviates)
        if value:
            yield Case(
                f"delay-{name}-in-envdir",
                [ENVDIR, "--kill-old-delay=0"],
                restart_once,
                files={f"env/{DELAY}": value},
                deviates=deviates,
            )
    for value in ("0", "1", "01", "+1"):
        yield Case(f"delay-{value}-by-option", [f"--kill-old-delay={value}"], restart_once)
    yield Case("delay-default-of-auto-restart", ["--enable-auto-restart"], restart_once)
    yield Case(
        "delay-none-with-auto-restart",
        ["--enable-auto-restart", "--kill-old-delay=0"],
        restart_once,
    )


def _write(name: str, value: bytes) -> Callable[[Run], None]:
    def prelude(run: Run) -> None:
        run.path("env").mkdir()
        run.path(f"env/{name}").write_bytes(value)

    return prelude


def _odd_entries(run: Run) -> None:
    directory = run.path("env")
    (directory / "DIRECTORY").mkdir(parents=True)
    (directory / "DIRECTORY" / "INNER").write_text("x")
    (directory / "DANGLING").symlink_to("nowhere")
    (directory / "TARGET").write_text("target")
    (directory / "LINK").symlink_to("TARGET")


def _envdir() -> Iterator[Case]:
    for name, value in VALUES.items():
        yield Case(f"envdir-value-{name}", [ENVDIR], prelude=_write("NAME", value))
    for name in NAMES:
        deviates = "=" in name and perl_keeps_equals()
        equals = {"generation 1: A": Differs(by.EQUALS, "nothing")} if deviates else {}
        write = _write(name, b"value")
        yield Case(f"envdir-name-{name}", [ENVDIR], prelude=write, deviates=equals)
    yield Case("envdir-odd-entries", [ENVDIR], prelude=_odd_entries)
    yield Case("envdir-missing", [ENVDIR])
    yield Case("envdir-is-a-file", [ENVDIR], files={"env": "x"})
    yield Case("envdir-relative", ["--envdir=env"], restart_once, files={"env/NAME": "1"})
    yield Case(
        "envdir-overrules-the-environment",
        [ENVDIR],
        env={"NAME": "inherited"},
        files={"env/NAME": "file"},
    )
    yield Case(
        "envdir-path-finds-the-program",
        [ENVDIR],
        files={"env/PATH": "@DIR@:/usr/bin:/bin"},
        program=["run", "a"],
    )


def _changes() -> Iterator[Case]:
    def added(run: Run) -> None:
        run.wait_record()
        run.path("env").mkdir(exist_ok=True)
        run.path("env/NEW").write_text("new")
        run.hup(2)
        run.end()

    def changed(run: Run) -> None:
        run.wait_record()
        run.path("env/NAME").write_text("changed")
        run.hup(2)
        run.path("env/NAME").write_text("once more")
        run.hup(3)
        run.end()

    def deleted(run: Run) -> None:
        run.wait_record()
        run.path("env/LATE").write_text("late")
        run.hup(2)
        run.path("env/LATE").unlink()
        run.hup(3)
        run.end()

    def delayed(run: Run) -> None:
        run.wait_record()
        run.path(f"env/{DELAY}").write_text("1")
        run.hup(2)
        run.path(f"env/{DELAY}").write_text("0")
        run.hup(3)
        run.end()

    def removed(run: Run) -> None:
        run.wait_record()
        run.path("env").rename(run.path("gone"))  # all its files at once
        run.hup(2)
        run.end()

    files = {"env/NAME": "first"}
    yield Case("envdir-file-added", [ENVDIR], added, files=files)
    yield Case("envdir-made-later", [ENVDIR], added)
    yield Case("envdir-file-changed", [ENVDIR], changed, files=files)
    yield Case("envdir-file-come-and-gone", [ENVDIR], deleted, files=files)
    yield Case(
        "envdir-file-come-and-gone-over-the-environment",
        [ENVDIR],
        deleted,
        env={"LATE": "inherited"},
        files=files,
    )
    yield Case("envdir-delay-changed", [ENVDIR], delayed, files=files)
    kept = {"generation 2: NAME": Differs(by.DELETED, "nothing")}
    yield Case("envdir-gone", [ENVDIR], removed, files=files, deviates=kept)
    yield Case(
        "envdir-gone-over-the-environment",
        [ENVDIR],
        removed,
        env={"NAME": "inherited"},
        files=files,
        deviates={"generation 2: NAME": Differs(by.DELETED, "inherited")},
    )


def _inherited() -> Iterator[Case]:
    theirs = {"SERVER_STARTER_PORT": "80=3", "SERVER_STARTER_GENERATION": "41"}
    yield Case("environment-of-another-start-server", env=theirs)
    yield Case("environment-of-another-start-server-with-port", ["--port=@P1@"], env=theirs)
    yield Case("environment-is-handed-on", env={"A": "1", "B": "x=y", "lower": "\u00e9", "C": ""})
    yield Case("environment-of-python", env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "0"})
    yield Case("environment-of-perl", env={"PERL5OPT": "-Mstrict", "PERL_UNICODE": "0"})
    for name, value in (("lc-all-c", "C"), ("lc-all-posix", "POSIX"), ("lc-all-empty", "")):
        yield Case(
            f"environment-{name}",
            env={"LC_ALL": value},
            program=["sh", "-c", "tr '\\0' '\\n' < /proc/self/environ | sort; exec @RUN@"],
        )
    yield Case("environment-without-locale", env={"LC_ALL": "@UNSET@"})
    yield Case("environment-lang-c", env={"LC_ALL": "@UNSET@", "LANG": "C"})
    yield Case("environment-without-path", env={"PATH": "@UNSET@"}, program=["env", "@RUN@"])
    yield Case("environment-path-empty-part", env={"PATH": ":/usr/bin:/bin"}, program=["run"])
    yield Case("generation-is-counted", script=three)


def three(run: Run) -> None:
    run.wait_record()
    run.hup(2)
    run.hup(3)
    run.end()


def _deviating() -> Iterator[Case]:
    for name, value in ((DELAY, "abc"), (DELAY, "-1"), (EVERY, "abc"), (EVERY, "1m")):
        wrong = refused(by.NUMBERS, f'{name}: ?"{value}" is not a number of seconds', 1)
        options = ["--enable-auto-restart"]
        options += ["--kill-old-delay=0"] if name == EVERY else []
        yield Case(f"no-number-{name}-{value}", options, env={name: value}, deviates=wrong)
        files = {f"env/{name}": value}
        yield Case(f"no-number-{name}-{value}-in-envdir", [ENVDIR], files=files, deviates=wrong)

    yield Case(
        "envdir-overrules-the-sockets-and-the-generation",
        [ENVDIR, "--port=127.0.0.1:@P1@"],
        restart_once,
        files={"env/SERVER_STARTER_PORT": "1=9", "env/SERVER_STARTER_GENERATION": "70"},
        deviates={
            "generation 2: SERVER_STARTER_PORT": Differs(by.OWN, "127.0.0.1:<port 1>=<fd>"),
            "generation 2: SERVER_STARTER_GENERATION": Differs(by.OWN, "2"),
            "?generation *": Differs(by.OWN),
            "?stuck": Differs(by.OWN, "nothing"),
            "?messages": Differs(by.OWN),
            "?exit status": Differs(by.OWN, 0),
        },
    )

    def fifo(run: Run) -> None:
        run.path("env").mkdir()
        os.mkfifo(run.path("env/FIFO"))

    yield Case(
        "envdir-with-a-fifo",
        [ENVDIR],
        perl_may_hang(serve),
        prelude=fifo,
        deviates={
            "stuck": Differs(by.FIFO, "nothing"),
            "messages": Differs(by.FIFO, "exiting"),
            "exit status": Differs(by.FIFO, 0),
            "?generation *": Differs(by.FIFO),
            "?serving: *": Differs(by.FIFO),
        },
    )
