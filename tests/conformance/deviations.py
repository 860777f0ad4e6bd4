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
    """One row of the table.

    `lines` are patterns of whole messages that only ours has, `perl_lines` that only Perl's has,
    `variables` names in workers' environments that only ours sets.
    """

    title: str
    why: str
    lines: tuple[str, ...] = ()
    perl_lines: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


# Messages
REASON = "the texts of errors"
ALLOWED = "what is allowed"
WARNINGS = "Perl's warnings"
PLAIN_NUMBERS = "numbers in messages"
CONTROL = "--control-socket"
HELP = "--help"
# What workers get
SYSTEMD = "LISTEN_FDS, NOTIFY_SOCKET"
BOOT = "SERVER_STARTER_BOOT"
RELAY = "workers' stderr"
INTERVAL_SEEN = "AUTO_RESTART_INTERVAL, unset"
# The command line
STATUS = "--status"
POSIX = "POSIXLY_CORRECT"
CHECKED = "wrong values"
DAEMON_PID = "--daemonize"
NEGATIVE = "numbers below 0"
SIGNALS = "signal names"
PROGRAM = "a program or directory that is missing"
LEFT_OVER = "exit status of a wrong port"
# Sockets
PORT_RANGE = "ports above 65535"
SAME_FD = "=FD"
PATHS = "what is at --path"
LONG_PATH = "a --path that is too long"
# The envdir
NUMBERS = "numbers in variables"
DELETED = "a file deleted from the envdir"
REDIRECT = "ENVDIR within the envdir"
OWN = "SERVER_STARTER_* in the envdir"
EQUALS = "= in an envdir file's name"
FIFO = "a FIFO in the envdir"
SWITCHED_ON = "timed restarts switched on in the envdir"
# Generations
READY = "READY=1"
BACK_OFF = "failed starts"
AT_ONCE = "a stop"
ONE_AT_A_TIME = "restarts asked for in a restart"
DEATHS = "deaths in a restart"
EXEC = "a program that can't be run"
USR1 = "USR1, USR2"
# Files and clients
HELD = "a pid that no server holds"
SECOND = "a second server with the same pid file"

DEVIATIONS = {
    one.title: one
    for one in (
        Deviation(REASON, "`what: reason`, without the file and line of a Perl program"),
        Deviation(ALLOWED, "a wrong value is named with what is right"),
        Deviation(
            WARNINGS,
            "they tell of the program, not of what is wrong",
            perl_lines=(
                r"Use of uninitialized value .*",
                r'Argument ".*" isn\'t numeric .*',
                r"sleep\(\) with negative argument",
            ),
        ),
        Deviation(PLAIN_NUMBERS, "the number that counts, in one form"),
        Deviation(
            CONTROL, "`--restart` by it tells why a restart failed; by files works as before"
        ),
        Deviation(HELP, "it names its own options"),
        Deviation(
            SYSTEMD,
            "set for workers, so that programs need no adapter, and can say that they are ready",
            variables=("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET"),
        ),
        Deviation(
            BOOT,
            "set for workers, so that those of a server that is dead are found and ended",
            variables=("SERVER_STARTER_BOOT",),
        ),
        Deviation(
            RELAY, "a pipe, so that `--restart` can show the last lines of a failed generation"
        ),
        Deviation(INTERVAL_SEEN, "the first generation sees the 360 that counts, as later ones do"),
        Deviation(
            STATUS,
            "an option of its own; with a value (`--status=F`) still short for --status-file",
        ),
        Deviation(
            POSIX, "how a service reads its options should not hang on a variable meant for others"
        ),
        Deviation(CHECKED, "all are looked at before the first socket is opened"),
        Deviation(DAEMON_PID, "`starting now` names the pid of the daemon, which is there to stay"),
        Deviation(NEGATIVE, "no time and no queue is below 0"),
        Deviation(SIGNALS, "a wrong one is refused at the start, not found at the first HUP"),
        Deviation(PROGRAM, "refused at the start, instead of tried for ever"),
        Deviation(LEFT_OVER, "255, where Perl's ends with whatever errno was left over"),
        Deviation(PORT_RANGE, "refused; Perl's takes them modulo 65536"),
        Deviation(SAME_FD, "one that is taken (0 may be, 1 and 2 are) is refused, not replaced"),
        Deviation(
            PATHS, "only a socket that nobody listens on is removed: no file, link or live socket"
        ),
        Deviation(LONG_PATH, "refused; Perl's listens on a shorter one that nobody asked for"),
        Deviation(
            NUMBERS, "no number: refused at the start, said and left alone later; not taken for 0"
        ),
        Deviation(DELETED, "its variable is gone, or is the inherited one again"),
        Deviation(REDIRECT, "the directory is the command line's or the environment's to choose"),
        Deviation(OWN, "a file can't tell workers of wrong sockets or a wrong generation"),
        Deviation(EQUALS, "there is no such variable"),
        Deviation(FIFO, "passed over; Perl's waits until someone writes into it"),
        Deviation(SWITCHED_ON, "they begin at once; Perl's waits until something else wakes it"),
        Deviation(
            READY,
            "whoever says it serves at once; no --interval, no implicit KILL_OLD_DELAY of 5 s",
        ),
        Deviation(
            BACK_OFF,
            "tried again after 1, 1.5, 2.25 … intervals, 30 s at most, instead of one for ever",
            lines=(r"trying again in \d+\.\d secs",),
        ),
        Deviation(AT_ONCE, "TERM and INT are acted on at once in a restart, too"),
        Deviation(
            ONE_AT_A_TIME,
            "one more restart follows, when the old generation is gone: two are alive at most",
            lines=(r"restart asked by HUP during a restart: one more will follow",),
        ),
        Deviation(DEATHS, "noticed at once, not when the delay or the interval is over"),
        Deviation(EXEC, "`failed to exec PROGRAM: reason`, on a line of its own"),
        Deviation(
            USR1, "they reopen the log and upgrade; Perl's dies of them, its workers live on"
        ),
        Deviation(HELD, "never signalled: that pid may be anyone's by now"),
        Deviation(SECOND, "refused; Perl's empties the file of the first one, and waits"),
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
        (_RESOLVE, REASON, r"\1:"),
    ):
        stripped = pattern.sub(kept, line)
        seen |= {title} if stripped != line else set()
        line = stripped
    return re.sub(r": +", ":", line)
