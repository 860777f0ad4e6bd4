"""What a running server says of itself: a line for systemd, JSON for --status, and metrics.

All pure: (state, time) to text. Metrics hold times and not ages, so that a file of them stays true
while nothing happens.
"""

from __future__ import annotations

from . import model
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .model import Generation, State

_BYTES_PER_KB = 1024
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FIRST_PRINTABLE = " "


class About(Record):
    """What does not change while a server runs, and its clock: monotonic + `epoch` is Unix time."""

    version: str
    pid: int
    started: float
    epoch: float
    sockets: tuple[str, ...]
    name: str = ""


def summary(state: State, clock: Callable[[float], str]) -> str:
    """Return the state in a line, for `systemctl status`; `clock` puts a time in words."""
    parts = [f"generation {one.number} {_phase(one)} (pid {one.pid})" for one in state.generations]
    if state.stopping:
        parts.insert(0, "stopping")
    if state.trouble:
        parts.append(state.trouble)
    if state.restart and state.restart.waiting is not None and not state.restart.candidate:
        parts.append("a restart waits for memory")
    one = model.serving(state)
    if one and one.processes > 1:
        parts.append(
            f"{one.processes} processes, {one.pss_kb / _BYTES_PER_KB:.0f} MB, "
            f"{one.shared_percent:.0f} % shared"
        )
    if state.last_reason and sum(count for _, count in state.restarts) > 1:
        parts.append(f"last restart: {state.last_reason}")
    due = model.auto_restart_at(state)
    if due is not None:
        parts.append(f"next restart at {clock(due)}")
    return "; ".join(parts) or "no generation alive"


def name_of_file(path: str) -> str:
    """Return the name of a server in its metrics, by their file's: `main` for `/…/main.prom`."""
    return path.rpartition("/")[2].removesuffix(".prom")


def _phase(one: Generation) -> str:
    return f"{one.phase}, its main process gone" if one.left else one.phase


def snapshot(state: State, about: About, now: float) -> dict[str, object]:
    """Return all there is to know, for --status; times in seconds, memory in kB."""
    due = model.auto_restart_at(state)
    restart = state.restart
    return {
        "version": about.version,
        "pid": about.pid,
        "uptime_seconds": _seconds(now - about.started),
        "sockets": list(about.sockets),
        "stopping": state.stopping,
        "generations": [_generation(one, now) for one in state.generations],
        "restart": restart
        and {
            "reason": restart.reason,
            "generation": restart.candidate or None,
            "waits_for_memory": restart.waiting is not None and not restart.candidate,
            "next_attempt_seconds": None
            if restart.retry_at is None
            else _seconds(max(0.0, restart.retry_at - now)),
        },
        "restarts": dict(state.restarts),
        "last_reason": state.last_reason or None,
        "failed_attempts": state.failed_attempts,
        "trouble": state.trouble or None,
        "next_timed_restart_seconds": None if due is None else _seconds(due - now),
    }


def _generation(one: Generation, now: float) -> dict[str, object]:
    return {
        "number": one.number,
        "pid": one.pid,
        "phase": one.phase,
        "age_seconds": _seconds(now - one.started),
        "phase_seconds": _seconds(now - one.since),
        "ready_after_seconds": None if one.ready is None else _seconds(one.ready - one.started),
        "said_ready": one.told,
        "status": one.status or None,
        "processes": one.processes or None,
        "pss_kb": one.pss_kb or None,
        "shared_percent": one.shared_percent if one.processes > 1 else None,
        "main_process_gone": one.left,
    }


def _seconds(value: float) -> float:
    return round(value, 3)


def encode(value: object) -> str:
    """Return JSON (RFC 8259) for what `snapshot` is made of; the json module would load re."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return f'"{"".join(map(_escape, value))}"'
        case list():
            return f"[{', '.join(map(encode, value))}]"
        case dict():
            return (
                f"{{{', '.join(f'{encode(str(key))}: {encode(it)}' for key, it in value.items())}}}"
            )
        case _:
            raise TypeError(f"no JSON for {value!r}")


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character < _FIRST_PRINTABLE or "\ud800" <= character <= "\udfff":
        return f"\\u{ord(character):04x}"
    return character


def metrics(state: State, about: About) -> str:
    """Return the state in Prometheus's text format."""
    one = model.serving(state)
    due = model.auto_restart_at(state)
    phases = (model.STARTING, model.SERVING, model.RETIRING, model.DRAINING)
    families: list[tuple[str, str, str, Iterable[tuple[str, float]]]] = [
        ("info", "gauge", "Version of start_server.", [(f'version="{about.version}"', 1)]),
        ("start_time_seconds", "gauge", "When it was started.", [("", _at(about.started, about))]),
        (
            "generations",
            "gauge",
            "Generations that are alive.",
            [(f'phase="{phase}"', len(model.in_phase(state, phase))) for phase in phases],
        ),
        (
            "generation",
            "counter",
            "Number of the generation that serves, 0 for none.",
            [("", one.number if one else 0)],
        ),
        (
            "generation_ready_time_seconds",
            "gauge",
            "When the generation that serves became ready.",
            [("", _at(one.ready, about))] if one and one.ready is not None else [],
        ),
        (
            "generations_served_total",
            "counter",
            "Generations that became ready, by what they were started for.",
            [(f'reason="{_label(reason)}"', count) for reason, count in state.restarts],
        ),
        (
            "failed_attempts_total",
            "counter",
            "Generations that did not become ready.",
            [("", state.failed_attempts)],
        ),
        ("failing", "gauge", "1 while the last attempt has failed.", [("", bool(state.trouble))]),
        (
            "memory_pss_bytes",
            "gauge",
            "Memory of the generation that serves, all its processes together.",
            [("", one.pss_kb * _BYTES_PER_KB)] if one and one.processes else [],
        ),
        (
            "memory_shared_ratio",
            "gauge",
            "Share of the workers' memory that is shared.",
            [("", one.shared_percent / 100)] if one and one.processes > 1 else [],
        ),
        (
            "processes",
            "gauge",
            "Processes of the generation that serves.",
            [("", one.processes)] if one and one.processes else [],
        ),
        (
            "next_timed_restart_time_seconds",
            "gauge",
            "When the next timed restart is due.",
            [("", _at(due, about))] if due is not None else [],
        ),
    ]
    lines = []
    for name, kind, text, samples in families:
        shown = [(labels, value) for labels, value in samples]
        if not shown:
            continue
        lines.append(f"# HELP start_server_{name} {text}")
        lines.append(f"# TYPE start_server_{name} {kind}")
        for labels, value in shown:
            both = ",".join(filter(None, (f'server="{_label(about.name)}"', labels)))
            lines.append(f"start_server_{name}{{{both}}} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _at(moment: float, about: About) -> float:
    return round(moment + about.epoch)


def _label(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # a file's name may be of any bytes
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
