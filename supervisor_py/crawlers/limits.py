"""Which clients nginx limits: the suspects of a report, as a map for it.

Runs as root, on what strangers have written, so it trusts no line: nothing reaches nginx's
configuration but an address and what is plainly a User-Agent, and nginx tests that before it reads
it. Standard library only.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from . import known, locks
from .lines import MOST_AGENT

MOST = 1000  # clients, the busiest: nginx keeps them in memory
MOST_LINE = 16 * 1024
GROUPS = {"impostors": "impostor", "undeclared": "undeclared"}
VALUE = "$binary_remote_addr"  # limited for itself
_SECONDS = 60
_BEGIN = "# by kechi-crawler-limits, from the access log; it is written anew by a timer\n"


class LimitsError(Exception):
    """What can't be done; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Which groups are limited, and which networks never."""

    groups: tuple[str, ...]
    never: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """Where all of it lies."""

    settings: Path = Path("/etc/kechi/crawlers.json")
    suspects: Path = Path("/var/lib/kechi-crawlers/suspects.jsonl")
    map: Path = Path("/etc/nginx/kechi.d/limited/crawlers.map")


def chosen(lines: Iterator[str], settings: Settings) -> list[tuple[str, str]]:
    """Return the clients to limit, each an address and a User-Agent, of what a report has found."""
    wanted = {GROUPS[group] for group in settings.groups}
    never = [ip_network(one) for one in (*known.OWN, *settings.never)]
    found: dict[bytes, tuple[str, str]] = {}
    for line in lines:
        client = _client(line, wanted)
        if client is None:
            continue
        address = ip_address(client[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if any(mapped in network for network in never):
            continue
        # nginx takes no key twice, and compares them without their case
        found.setdefault(f"{client[0]} {client[1]}".encode().lower(), client)
        if len(found) == MOST:
            break
    return sorted(found.values())  # in no order of the moment: the same clients are the same map


def as_map(clients: Sequence[tuple[str, str]]) -> str:
    """Return what nginx includes in its map."""
    lines = [f'"{address} {_quoted(agent)}" {VALUE};\n' for address, agent in clients]
    return "".join([_BEGIN, *lines])


def _client(line: str, wanted: set[str]) -> tuple[str, str] | None:
    """Return a line's client; None of another group, and of what nginx would not see as that."""
    try:
        found = json.loads(line)
        group, address, agent = found["group"], found["address"], found["agent"]
        if group not in wanted or not isinstance(agent, str) or not isinstance(address, str):
            return None
        ip_address(address)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    # cut, of no UTF-8, or escaped by the log: what the visitor has sent is another text
    try:
        known_whole = len(agent.encode()) < MOST_AGENT and agent.isprintable()
    except UnicodeEncodeError:
        return None
    return (address, agent) if known_whole and "\\" not in agent and "%" not in address else None


def _quoted(agent: str) -> str:
    return agent.replace('"', '\\"')


def read_settings(file: Path) -> Settings:
    """Read them; raises LimitsError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        settings = Settings(tuple(found["groups"]), tuple(found["never"]))
        for one in settings.never:
            ip_network(one)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LimitsError(f"{file}: {error}") from None
    for group in settings.groups:
        if group not in GROUPS:
            raise LimitsError(f"{file}: groups: {group} is not one of {', '.join(GROUPS)}")
    return settings


def suspects(file: Path) -> Iterator[str]:
    """Yield what the report has found, line by line; raises LimitsError."""
    try:
        # whoever writes it must not have us read another file
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise LimitsError(f"{file}: {error.strerror}") from None
    with os.fdopen(handle, encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(MOST_LINE):
            yield line


def put(file: Path, text: str) -> bool:
    """Have nginx run with that map; tell whether it was another one. Raises LimitsError.

    A map that nginx does not take is put back, and nginx goes on with what it has.
    """
    before = file.read_text(encoding="utf-8") if file.is_file() else None
    if before != text:
        _replace(file, text)
        fault = _run("nginx", "-t", "-q")
        if fault:
            if before is None:
                file.unlink()
            else:
                _replace(file, before)
            raise LimitsError(f"nginx does not take the new map, which was put back: {fault}")
    if before != text or file.stat().st_mtime > _nginx_since():
        fault = _run("systemctl", "reload", "nginx.service")
        if fault:
            raise LimitsError(f"nginx could not be reloaded: {fault}")
    return before != text


def _replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")  # which nginx does not include
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def _nginx_since() -> float:
    """Return when nginx was started or last reloaded, in seconds since 1970."""
    shown = subprocess.run(
        ["systemctl", "show", "--value", "--property=StateChangeTimestampMonotonic", "nginx"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    moment = shown.stdout.strip()
    since_boot = int(moment) / 1e6 if moment.isdecimal() else 0.0
    return time.time() - time.monotonic() + since_boot


def _run(*command: str) -> str:
    """Run a command; what it said where it failed, else ""."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = (done.stderr or done.stdout).strip()
    return (said or f"{command[0]} ended with {done.returncode}") if done.returncode else ""


def main(arguments: Sequence[str] | None = None, places: Places = Places()) -> int:
    """Run as the command `kechi-crawler-limits`."""
    parser = argparse.ArgumentParser(
        prog="kechi-crawler-limits",
        description="Have nginx limit impostors and undeclared bots, as the last report found them",
    )
    actions: Mapping[str, str] = {
        "apply": "limit those that the last report has found",
        "clear": "limit nobody, until it is applied again",
        "list": "show who is limited",
    }
    said = "; ".join(f"{name}: {what}" for name, what in actions.items())
    parser.add_argument("action", choices=actions, help=said)
    action = parser.parse_args(arguments).action
    try:
        if action == "list":
            sys.stdout.write(places.map.read_text(encoding="utf-8") if places.map.is_file() else "")
            return 0
        with locks.held(locks.CRAWLERS, f"kechi-crawler-limits {action}", tell=_say):
            clients = []
            if action == "apply":  # the settings not before: a play may have changed them meanwhile
                clients = chosen(suspects(places.suspects), read_settings(places.settings))
            changed = put(places.map, as_map(clients))
        print(f"limited: {len(clients)}{', as before' if not changed else ''}")
    except (LimitsError, OSError) as error:
        _say(str(error))
        return 1
    return 0


def _say(text: str) -> None:
    print(f"kechi-crawler-limits: {text}", file=sys.stderr, flush=True)
