"""What the operator asked for: one record, checked before a socket is opened."""

from __future__ import annotations

from . import signals
from .errors import Complaints, FatalError
from .handoff import PORT_VARIABLE
from .model import AUTO, INTERVAL, NOTIFY, PROBE, Policy
from .options import FLAG, INTEGER, SECONDS, TEXT, TEXTS, Option
from .ports import parse_ports
from .record import Record
from .signals import Signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .options import Parsed
    from .ports import Port

BACKLOG = 4096  # SOMAXCONN of Linux since 5.4; the kernel cuts it to its own limit
ENVDIR = "ENVDIR"
KILL_OLD_DELAY = "KILL_OLD_DELAY"
ENABLE_AUTO_RESTART = "ENABLE_AUTO_RESTART"
AUTO_RESTART_INTERVAL = "AUTO_RESTART_INTERVAL"
MEMORY_BUDGET_MB = "MEMORY_BUDGET_MB"
SHARED_FLOOR_PERCENT = "SHARED_FLOOR_PERCENT"
MIN_RESTART_INTERVAL = "MIN_RESTART_INTERVAL"
READINESS_KINDS = (AUTO, NOTIFY, INTERVAL)
_AUTO_RESTART_SECONDS = "360"  # Perl's
_MIN_RESTART_SECONDS = "600"
_KB_PER_MB = 1024
_MOST_FLOOR = 99  # percent: workers never share all
_MOST = 10**9  # of anything: 30 years of seconds

OPTIONS = (
    Option("port", TEXTS, "[HOST:][u]PORT[=FD]", "TCP port to listen on (u: UDP); may be repeated"),
    Option("path", TEXTS, "PATH", "unix socket to listen on; may be repeated"),
    Option("dir", TEXT, "DIR", "directory in which the program is run"),
    Option("interval", INTEGER, "SECONDS", "a child alive after this long is taken to serve (1)"),
    Option("signal-on-hup", TEXT, "SIGNAL", "sent to an old generation that is replaced (TERM)"),
    Option("signal-on-term", TEXT, "SIGNAL", "sent to all generations on TERM (TERM)"),
    Option("backlog", INTEGER, "N", f"queue of connections not yet accepted ({BACKLOG})"),
    Option("pid-file", TEXT, "FILE", "holds our process id, locked as long as we live"),
    Option("status-file", TEXT, "FILE", "holds GENERATION:PID of each generation alive"),
    Option("envdir", TEXT, "DIR", "variables, one file each, read again at each restart"),
    Option("log-file", TEXT, "FILE", "append all output to this file, or to a `| command`"),
    Option("daemonize", FLAG, "", "go into the background; needs --log-file"),
    Option("kill-old-delay", INTEGER, "SECONDS", "let an old generation live on for this long (0)"),
    Option("enable-auto-restart", FLAG, "", "restart by the clock"),
    Option("auto-restart-interval", INTEGER, "SECONDS", "how often, and a tenth at most (360)"),
    Option("restart", FLAG, "", "restart the running server and wait for the outcome"),
    Option("stop", FLAG, "", "stop the running server and wait until it has ended"),
    Option("help", FLAG, "", "show this text"),
    Option("version", FLAG, "", "show the version"),
    Option("readiness", TEXT, "KIND", "auto: READY=1 or --interval; notify; interval", ours=True),
    Option("readiness-timeout", SECONDS, "SECONDS", "wait this long for READY=1 (60)", ours=True),
    Option("grace", SECONDS, "SECONDS", "from the signal to SIGKILL (30)", ours=True),
    Option("control-socket", TEXT, "PATH", "where --restart reaches the server", ours=True),
    Option("restart-timeout", SECONDS, "SECONDS", "--restart gives up then (300)", ours=True),
    Option("status", FLAG, "", "show what the running server does", ours=True),
    Option("json", FLAG, "", "with --status: as JSON", ours=True),
    Option("upgrade", FLAG, "", "replace the running server by a new version of itself", ours=True),
    Option("user", TEXT, "NAME", "run as this user, once the sockets are open", ours=True),
    Option("group", TEXT, "NAME", "run as this group (that of --user)", ours=True),
    Option("probe", TEXT, "PROBE", "a generation serves when this address answers", ours=True),
    Option(
        "default-kill-old-delay",
        SECONDS,
        "SECONDS",
        "--kill-old-delay where it is unset, and the child can't say READY=1",
        ours=True,
    ),
    Option("max-generations", INTEGER, "N", "alive at once, at most (2)", ours=True),
    Option("memory-budget-mb", INTEGER, "MB", "restart when a generation holds more", ours=True),
    Option(
        "shared-floor-percent",
        INTEGER,
        "PERCENT",
        "restart when the workers share less of their memory",
        ours=True,
    ),
    Option("memory-interval", SECONDS, "SECONDS", "how often memory is measured (60)", ours=True),
    Option(
        "min-restart-interval",
        SECONDS,
        "SECONDS",
        "serve for this long before a restart for memory (600)",
        ours=True,
    ),
    Option(
        "memory-wait",
        SECONDS,
        "SECONDS",
        "a restart waits this long for memory for two generations (30)",
        ours=True,
    ),
    Option(
        "signal-on-shrink",
        TEXT,
        "SIGNAL",
        "asks a generation for a worker less where two don't fit (gunicorn: TTOU)",
        ours=True,
    ),
    Option(
        "signal-on-grow",
        TEXT,
        "SIGNAL",
        "gives it back if the restart fails (gunicorn: TTIN)",
        ours=True,
    ),
    Option("metrics-file", TEXT, "FILE", "figures for Prometheus's textfile collector", ours=True),
)


class Settings(Record):
    """The command line of a server that is to be started, checked."""

    command: tuple[str, ...]
    ports: tuple[Port, ...]
    paths: tuple[str, ...]
    directory: str | None
    backlog: int
    pid_file: str | None
    status_file: str | None
    control_socket: str | None
    log_file: str | None
    daemonize: bool
    user: str | None
    group: str | None
    probe: str | None
    metrics_file: str | None
    policy: Policy  # but for what the environment says

    def log_to_file(self) -> str | None:
        """Return the file of --log-file; None for a command, or no log at all."""
        name = self.log_file
        return None if name is None or name.lstrip().startswith("|") else name


class _Reader:
    """Reads values of the command line; one that is wrong is a complaint, and has its default."""

    def __init__(self, parsed: Parsed) -> None:
        self._parsed = parsed
        self.wrong = Complaints()

    def number(self, name: str, default: float, least: float = 0, most: float = _MOST) -> float:
        value = self._parsed.number(name)
        if value is None:
            return default
        if not least <= value <= most:
            how = "small" if value < least else "much"
            allowed = f"{least:g} or more" if value < least else f"{least:g} to {most:.0f}"
            self.wrong.add(FatalError(f"--{name}: {value:g} is too {how} (allowed: {allowed})", 1))
            return default
        return value

    def number_or_none(self, name: str) -> float | None:
        return None if self._parsed.number(name) is None else self.number(name, 0)

    def signal(self, name: str) -> Signal | None:
        text = self._parsed.text(name)
        with self.wrong:
            return signals.parse(text, f"--{name}") if text else None
        return None

    def signal_or_term(self, name: str) -> Signal:
        return self.signal(name) or Signal("TERM", signals.TERM)

    def readiness(self) -> str:
        given = self._parsed.text("readiness")
        if self._parsed.text("probe"):
            if given:
                self.wrong.add(FatalError("--probe and --readiness exclude each other", 1))
            return PROBE
        kind = given or AUTO
        if kind not in READINESS_KINDS:
            kinds = ", ".join(READINESS_KINDS)
            self.wrong.add(FatalError(f'--readiness: "{kind}" is unknown (allowed: {kinds})', 1))
        return kind


def from_options(parsed: Parsed) -> Settings:
    """Check a command line; raises FatalError of all that is wrong with it."""
    if not parsed.arguments:
        raise FatalError("server program not specified")
    read = _Reader(parsed)
    policy = Policy(
        interval=read.number("interval", 1),
        readiness=read.readiness(),
        readiness_timeout=read.number("readiness-timeout", 60),
        grace=read.number("grace", 30),
        default_kill_old_delay=read.number_or_none("default-kill-old-delay"),
        signal_on_hup=read.signal_or_term("signal-on-hup"),
        signal_on_term=read.signal_or_term("signal-on-term"),
        max_generations=int(read.number("max-generations", 2, least=2)),
        memory_interval=read.number("memory-interval", 60, least=1),
        memory_wait=read.number("memory-wait", 30),
        signal_on_shrink=read.signal("signal-on-shrink"),
        signal_on_grow=read.signal("signal-on-grow"),
    )
    # Variables too, which `policy_in` reads.
    read.number("kill-old-delay", 0)
    read.number("auto-restart-interval", 0)
    read.number("memory-budget-mb", 0)
    read.number("min-restart-interval", 0)
    read.number("shared-floor-percent", 0, most=_MOST_FLOOR)
    if parsed.text("group") and not parsed.text("user"):
        read.wrong.add(FatalError("--group: needs --user", 1))
    for path in parsed.texts("path"):
        if ";" in path:
            what = f'--path: "{path}" has a ";", which {PORT_VARIABLE} can\'t carry'
            read.wrong.add(FatalError(what, 1))
    chosen = Settings(
        command=parsed.arguments,
        ports=parse_ports(parsed.texts("port"), read.wrong),
        paths=parsed.texts("path"),
        directory=parsed.text("dir"),
        backlog=int(read.number("backlog", 0)) or BACKLOG,
        pid_file=parsed.text("pid-file"),
        status_file=parsed.text("status-file"),
        control_socket=parsed.text("control-socket"),
        log_file=parsed.text("log-file"),
        daemonize=parsed.flag("daemonize"),
        user=parsed.text("user"),
        group=parsed.text("group"),
        probe=parsed.text("probe"),
        metrics_file=parsed.text("metrics-file"),
        policy=policy,
    )
    read.wrong.settle()
    return chosen


def variables(parsed: Parsed) -> dict[str, str]:
    """Return the options that are variables too: the envdir overrules them, children see them."""
    given = {
        ENVDIR: parsed.text("envdir"),
        ENABLE_AUTO_RESTART: "1" if parsed.flag("enable-auto-restart") else None,
        KILL_OLD_DELAY: parsed.text("kill-old-delay"),
        AUTO_RESTART_INTERVAL: parsed.text("auto-restart-interval"),
        MEMORY_BUDGET_MB: parsed.text("memory-budget-mb"),
        SHARED_FLOOR_PERCENT: parsed.text("shared-floor-percent"),
        MIN_RESTART_INTERVAL: parsed.text("min-restart-interval"),
    }
    return {name: value for name, value in given.items() if value is not None}


def complete(environment: Mapping[str, str]) -> dict[str, str]:
    """Fill in the interval of timed restarts, so that children see the one that is used.

    Raises FatalError for a wrong value.
    """
    filled = dict(environment)
    if _true(filled.get(ENABLE_AUTO_RESTART, "")) and not _auto_restart_interval(filled):
        filled[AUTO_RESTART_INTERVAL] = _AUTO_RESTART_SECONDS
    return filled


def policy_in(policy: Policy, environment: Mapping[str, str]) -> Policy:
    """Return the policy that holds in an environment (the envdir's values included).

    Raises FatalError naming the variable; the caller keeps the policy that it has.
    """
    delay = environment.get(KILL_OLD_DELAY)
    floor = _number(environment, SHARED_FLOOR_PERCENT, "percent")
    if floor > _MOST_FLOOR:
        raise FatalError(
            f"{SHARED_FLOOR_PERCENT}: {floor:g} is too much (allowed: 0 to {_MOST_FLOOR})", 1
        )
    return policy.but(
        kill_old_delay=None if delay is None else _number(environment, KILL_OLD_DELAY, "seconds"),
        auto_restart=_true(environment.get(ENABLE_AUTO_RESTART, "")),
        auto_restart_interval=_auto_restart_interval(environment) or float(_AUTO_RESTART_SECONDS),
        memory_budget_kb=_number(environment, MEMORY_BUDGET_MB, "megabytes") * _KB_PER_MB,
        shared_floor_percent=floor,
        min_restart_interval=_number(
            {MIN_RESTART_INTERVAL: _MIN_RESTART_SECONDS, **environment},
            MIN_RESTART_INTERVAL,
            "seconds",
        ),
    )


def _auto_restart_interval(environment: Mapping[str, str]) -> float:
    """Return the seconds that were asked for; 0, however it is written, means the default."""
    return _number(environment, AUTO_RESTART_INTERVAL, "seconds")


def _true(text: str) -> bool:
    return text not in ("", "0")  # Perl's


def _number(environment: Mapping[str, str], name: str, unit: str) -> float:
    """Read a variable that is a number; 0, as when it is unset or empty, means off."""
    text = environment.get(name) or "0"
    whole, dot, part = text.strip().partition(".")
    if not (whole.isdecimal() and whole.isascii()) or (
        dot and not (part.isdecimal() and part.isascii())
    ):
        raise FatalError(f'{name}: "{text}" is not a number of {unit} (allowed: 0 or more)', 1)
    if float(text) > _MOST:
        raise FatalError(f"{name}: {text} is too much (allowed: 0 to {_MOST})", 1)
    return float(text)
