"""Where ours differs from Server::Starter 0.35 on purpose, and why.

docs/start_server.md has the same table for users; a test holds the two together. A case names the
deviations that it shows; those that any case may show are taken out of all of them here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .harness import Case, Differs, Notes


@dataclass(frozen=True)
class Deviation:
    """One row of the table: what, how it is here (there, where it isn't plain), and why.

    `lines` are patterns of whole messages that only ours has, `perl_lines` that only Perl's has,
    `variables` names in workers' environments that only ours sets. What any case may show is no
    case's own: `example` is the id of one that does.
    """

    title: str
    how: str
    why: str
    lines: tuple[str, ...] = ()
    perl_lines: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    example: str = ""


# Messages
REASON = "the texts of errors"
ALLOWED = "what is allowed"
HOLDER = "who has an address that is in use"
WARNINGS = "Perl's warnings"
PLAIN_NUMBERS = "numbers in messages"
CONTROL = "--control-socket"
HELP = "--help"
# What workers get
SYSTEMD = "LISTEN_FDS, NOTIFY_SOCKET"
BOOT = "SERVER_STARTER_BOOT"
RELAY = "stderr of workers"
INTERVAL_SEEN = "AUTO_RESTART_INTERVAL that is unset"
# The command line
STATUS = "--status"
POSIX = "POSIXLY_CORRECT"
CHECKED = "wrong values"
DAEMON_PID = "--daemonize"
OUT_OF_RANGE = "numbers out of range"
SIGNALS = "signal names"
PROGRAM = "a program or directory that isn't there"
LEFT_OVER = "the exit status of a wrong --port"
# Sockets
PORT_RANGE = "ports above 65535"
SAME_FD = "=FD"
SHARED_UDP = "a UDP port of another server"
PATHS = "what is at --path"
LONG_PATH = "a --path that is too long"
# The envdir
NUMBERS = "numbers in variables"
DELETED = "a file deleted from the envdir"
REDIRECT = "ENVDIR in the envdir"
OWN = "SERVER_STARTER_PORT and _GENERATION in the envdir"
EQUALS = "files with a = in the name in the envdir"
FIFO = "a FIFO in the envdir"
SWITCHED_ON = "timed restarts switched on in the envdir"
# Generations
READY = "READY=1"
BACK_OFF = "failed starts"
AT_ONCE = "stops"
ONE_AT_A_TIME = "restarts asked for in a restart"
DEATHS = "deaths of workers"
EXEC = "a program that vanishes"
USR1 = "USR1, USR2"
# Files and clients
HELD = "a pid that no server holds"
SECOND = "a second server with the same pid file"

DEVIATIONS = {
    one.title: one
    for one in (
        # Generations
        Deviation(
            READY,
            "a worker that says it serves at once, without --interval and without the 5 s that "
            "KILL_OLD_DELAY is by default with timed restarts",
            "nobody has to guess how long a start takes",
        ),
        Deviation(
            BACK_OFF,
            "tried again 1, 1.5, 2.25 … intervals after the last start, 30 s at most",
            "a program that can't start must not eat the machine",
            lines=(r"trying again in \d+\.\d secs",),
            example="first-start-exits-7",
        ),
        Deviation(
            ONE_AT_A_TIME,
            "fold into one more, which begins when the old generation is gone; a timed one waits "
            "too, and is never forced",
            "generations that don't end would pile up until the memory is full",
            lines=(r"restart asked by HUP during a restart: one more will follow",),
        ),
        Deviation(
            AT_ONCE,
            "TERM and INT are acted on in restarts and in KILL_OLD_DELAY, too; after --grace, KILL",
            "a service that doesn't stop holds a reboot up",
        ),
        Deviation(
            DEATHS,
            "noticed at once, not when the delay or the interval is over",
            "nothing serves meanwhile",
        ),
        Deviation(
            USR1,
            "reopen the log, and upgrade; Perl's dies of them, and its workers live on",
            "nobody could rely on them",
        ),
        # The command line
        Deviation(
            CHECKED,
            "all of them are found before the log is opened, a socket made, or `starting now` said",
            "a start that fails should leave no trace",
        ),
        Deviation(
            PROGRAM,
            "refused with the errno as exit status; Perl's tries it for ever",
            "a typing error is not a failed start",
        ),
        Deviation(
            SIGNALS, "a wrong one is refused; Perl's dies of it at the first HUP", "it can be known"
        ),
        Deviation(
            OUT_OF_RANGE, "below 0 and above a billion: refused", "no time and no queue is so"
        ),
        Deviation(
            STATUS,
            "an option of its own; with a value, `--status=F`, it is short for --status-file still",
            "what a server does should be easy to ask",
        ),
        Deviation(
            POSIX,
            "not heeded",
            "how a service reads its options should not hang on a variable meant for others",
        ),
        Deviation(
            CONTROL, "named in the message about what --restart needs", "it is the better way"
        ),
        Deviation(HELP, "another text", "it has other options"),
        Deviation(
            LEFT_OVER, "always 255; Perl's ends with the errno that was left over", "it is luck"
        ),
        Deviation(
            DAEMON_PID,
            "`starting now` names the pid of the daemon, Perl's that of the process that goes away",
            "it is the one to send signals to",
        ),
        # Sockets
        Deviation(PORT_RANGE, "refused; Perl's takes them modulo 65536", "nobody means that"),
        Deviation(
            SAME_FD,
            "1, 2, what another --port has and what is too high are refused",
            "Perl's replaces a listener, or its own stderr, without a word",
        ),
        Deviation(
            SHARED_UDP,
            "refused; Perl's shares it where the other one lets it",
            "each datagram would reach only one of the two",
        ),
        Deviation(
            PATHS,
            "only a socket that nobody listens on is removed; Perl's deletes files, links and the "
            "live sockets of other servers",
            "they belong to somebody",
        ),
        Deviation(
            LONG_PATH, "refused; Perl's listens on the part that fits", "clients would not find it"
        ),
        # The environment
        Deviation(
            SYSTEMD,
            "set for workers besides SERVER_STARTER_PORT; those that start_server got are its own",
            "most servers know them, and need no adapter",
            variables=("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET"),
            example="path",
        ),
        Deviation(
            BOOT,
            "set for a worker that is started while none serves",
            "serving a part can then be better than serving nothing",
            variables=("SERVER_STARTER_BOOT",),
            example="path",
        ),
        Deviation(
            RELAY,
            "a pipe to start_server, which hands it on; with --log-file stdout too",
            "`--restart` shows the last lines of a generation that failed",
            example="path",
        ),
        Deviation(
            INTERVAL_SEEN,
            "is 360 for the first generation too, as for all later ones",
            "what counts should be seen",
            example="delay-none-with-auto-restart",
        ),
        Deviation(
            NUMBERS,
            "what is none is refused at the start, said and not used later; Perl's takes it as 0",
            "a delay of 0 is not what `5s` means",
        ),
        Deviation(
            DELETED,
            "its variable is gone, or the inherited one again; Perl's keeps the value of its start",
            "what is deleted should be gone",
        ),
        Deviation(
            REDIRECT,
            "only handed on; Perl's reads that directory from then on",
            "it is an accident",
        ),
        Deviation(
            OWN,
            "do not count; from Perl's second generation on they do",
            "workers would take wrong sockets",
        ),
        Deviation(EQUALS, "passed over", "there are no such variables"),
        Deviation(
            FIFO, "passed over; Perl's hangs until somebody writes into it", "it is no value"
        ),
        Deviation(
            SWITCHED_ON,
            "begin at once; Perl's begin when something else has woken it",
            "it was asked for",
        ),
        # Messages
        Deviation(
            REASON,
            "`what: reason`; Perl's have no space, and name a file and line of the Perl program",
            "they are for people",
            example="port-in-use-tcp",
        ),
        Deviation(
            ALLOWED,
            "said with a wrong value",
            "nobody has to look it up",
            example="port-refused-words",
        ),
        Deviation(
            HOLDER,
            "said, with its pid and command",
            "it is the next question",
            example="port-in-use-tcp",
        ),
        Deviation(
            EXEC,
            "`failed to exec PROGRAM: reason`, on a line of its own; no file of ours is removed",
            "Perl's child runs the clean-up of its parent",
        ),
        Deviation(
            WARNINGS,
            "are not there",
            "they are about Perl variables",
            perl_lines=(
                r"Use of uninitialized value .*",
                r'Argument ".*" isn\'t numeric .*',
                r"sleep\(\) with negative argument",
            ),
            example="delay-empty",
        ),
        Deviation(PLAIN_NUMBERS, "`1 secs` for a delay of `01`", "one form for what counts"),
        # Files and clients
        Deviation(
            HELD,
            "is never signalled: --restart and --stop end with 3",
            "that pid may be anyone's by now",
        ),
        Deviation(
            SECOND,
            "is refused with 11; Perl's empties the file of the first one, and waits",
            "the first one could no longer be stopped",
        ),
    )
}


def refused(title: str, text: str, status: int) -> dict[str, Differs]:
    """Return how a case deviates that Perl's takes and ours refuses with these words."""
    return {
        "messages": Differs(title, text),
        "exit status": Differs(title, status),
        **dict.fromkeys(("?stuck", "?stdout", "?generation *", "?serving: *"), Differs(title)),
        **dict.fromkeys(("?restarted: *", "?files in the end", "?log"), Differs(title)),
    }


_STARTING = "start_server (pid:<server>) starting now..."
_PERL_PLACE = re.compile(r" at \S+ line \d+(?:, <\S+> (?:line|chunk) \d+)?\.$")
_ALLOWED = re.compile(r" \((?:allowed|--[a-z-]+)(?:: .*)?\)$")
_HOLDER = re.compile(r"(?<=Address already in use) \(pid \d+: .*\)$")
_RESOLVE = re.compile(r"^(failed to resolve host:.*?): *(?:no such address|\[Errno|Name or).*$")


def compare(case: Case, perl: Notes, ours: Notes) -> tuple[list[str], set[str]]:
    """Return what differs and should not, or should and does not; and the deviations seen."""
    perl, ours = dict(perl), dict(ours)
    seen = _take_out(perl, ours)
    problems = [
        f"{name} got stuck: {notes['stuck']}"
        for name, notes in (("perl", perl), ("ours", ours))
        if "stuck" in notes and not {"stuck", "?stuck"} & case.deviates.keys()
    ]
    excused: set[str] = set()
    only: dict[str, list[str]] = {}
    for key in sorted(perl.keys() | ours.keys()):
        if key in perl and key in ours and perl[key] == ours[key]:
            continue
        pattern = next((one for one in case.deviates if fnmatchcase(key, one.lstrip("?"))), None)
        sides = f"\n    perl: {_show(perl, key)}\n    ours: {_show(ours, key)}"
        if pattern is None and key.startswith("generation ") and (key in perl) != (key in ours):
            side = "Perl's" if key in perl else "ours"
            only.setdefault(f"{key.partition(':')[0]} is {side} alone", []).append(key)
            continue
        if pattern is None:
            problems.append(f"{key} differs:{sides}")
            continue
        excused.add(pattern)
        differs = case.deviates[pattern]
        if not differs.fits(ours.get(key, "nothing")):
            problems.append(f"{key} should deviate with {differs.ours!r}:{sides}")
        seen.add(differs.deviation)
    problems += [f"{what}: {', '.join(keys)}" for what, keys in only.items()]
    problems += [
        f"{pattern} should deviate ({case.deviates[pattern].deviation}), and is the same on "
        f"both sides: {[_show(ours, key) for key in ours if fnmatchcase(key, pattern)]}"
        for pattern in case.deviates
        if pattern not in excused and not pattern.startswith("?")
    ]
    return problems, seen


def _show(notes: Notes, key: str) -> str:
    if key not in notes:
        return "nothing"
    value = notes[key]
    if isinstance(value, list):
        return "".join(f"\n        {line}" for line in value) or "[]"
    return repr(value)


def _take_out(perl: Notes, ours: Notes) -> set[str]:
    """Take what deviates in any case out of both notes; return the deviations seen."""
    seen = set()
    for one in DEVIATIONS.values():
        for key in list(ours):
            if key.rpartition(": ")[2] in one.variables and key not in perl:
                del ours[key]
                seen.add(one.title)
    outputs = (": stderr", ": stdout") if "log" in ours else (": stderr",)
    for key in perl.keys() & ours.keys():
        if key.startswith("generation ") and key.endswith(outputs) and ours[key] == "<pipe>":
            seen |= {RELAY} if perl[key] != "<pipe>" else set()
            del perl[key], ours[key]
    key = "generation 1: AUTO_RESTART_INTERVAL"
    # Perl's sets it when it has waited for something the first time.
    if perl.get(key, "") in ("", "0") and ours.get(key) == "360":
        perl.pop(key, None)
        del ours[key]
        seen.add(INTERVAL_SEEN)
    if _refused_before_start(perl, ours):
        seen.add(CHECKED)
    for notes, is_ours in ((perl, False), (ours, True)):
        for key in notes:
            if key in ("messages", "log") or (key.endswith(": stderr") and key[0] != "g"):
                lines = notes[key]
                assert isinstance(lines, list)
                comparable = (_comparable(line, seen) for line in _own(lines, is_ours, seen))
                notes[key] = [line for line in comparable if line]
    return seen


def _refused_before_start(perl: Notes, ours: Notes) -> bool:
    """Take out that Perl's says it starts, where both refuse to and ours knows it before."""
    theirs, its = perl.get("messages"), ours.get("messages")
    if not (isinstance(theirs, list) and isinstance(its, list) and ours.get("exit status")):
        return False
    if theirs[:1] != [_STARTING] or _STARTING in its or len(theirs) == 1:
        return False
    perl["messages"] = theirs[1:]
    return True


def _own(lines: Iterable[str], is_ours: bool, seen: set[str]) -> Iterable[str]:
    """Leave out the lines that only this side says."""
    for line in lines:
        for one in DEVIATIONS.values():
            patterns = one.lines if is_ours else one.perl_lines
            if any(re.match(rf"{pattern}$", line) for pattern in patterns):
                seen.add(one.title)
                break
        else:
            yield line


def _comparable(line: str, seen: set[str]) -> str:
    for pattern, title, kept in (
        (_PERL_PLACE, REASON, ""),
        (_ALLOWED, ALLOWED, ""),
        (_HOLDER, HOLDER, ""),
        (_RESOLVE, REASON, r"\1:"),
    ):
        stripped = pattern.sub(kept, line)
        seen |= {title} if stripped != line else set()
        line = stripped
    return re.sub(r": +", ":", line)
