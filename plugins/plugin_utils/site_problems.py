"""What is wrong with what the front end is told of an app, beyond the types.

The same keys are in ``frontend_sites`` and in the apps of ``vhost_app_pools``.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..plugin_utils.server_blocks import server_blocks
from ..plugin_utils.settings import problem

NAME = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"  # of a file; nothing that begins with a dot is shown
URL = re.compile(rf"(/{NAME})+/")
DIRECTORY = re.compile(rf"{NAME}(/{NAME})*")
ABSOLUTE_DIRECTORY = re.compile(rf"(/{NAME})+")
VAULT = b"$ANSIBLE_VAULT"


def problems(
    at: str, entry: Mapping[str, Any], inventory: Path, *, absolute: bool
) -> Iterator[str]:
    """Every problem of one site or app.

    Args:
        at: its place in the inventory.
        entry: the site, or the app.
        inventory: the folder that relative paths of the control machine start at.
        absolute: whether its static directories are absolute.
    """
    for key in ("client_max_body_mb", "requests_per_second"):
        if entry.get(key) is not None and int(entry[key]) < 1:
            yield problem(f"{at}.{key}", entry[key], "is too small; allowed: 1 or more", entry)
    for number, static in enumerate(entry.get("static") or []):
        yield from _static(f"{at}.static[{number}]", static, absolute)
    if entry.get("certificate"):
        yield from _certificate(f"{at}.certificate", entry["certificate"], inventory)


def _static(at: str, static: Mapping[str, Any], absolute: bool) -> Iterator[str]:
    if not URL.fullmatch(str(static["url"])):
        yield problem(
            f"{at}.url",
            static["url"],
            'is no path of files; allowed: "/name/" or longer, of letters, digits, "-", "_", "~" '
            'and ".", and no name begins with "."',
            static,
        )
    pattern, example = (ABSOLUTE_DIRECTORY, "/") if absolute else (DIRECTORY, "")
    if not pattern.fullmatch(str(static["directory"])):
        yield problem(
            f"{at}.directory",
            static["directory"],
            f'is no such directory; allowed: "{example}name" or "{example}name/name", of letters, '
            'digits, "-", "_", "~" and ".", and no name begins with "."',
            static,
        )
    below = static.get("untrusted_below")
    if below is not None and not f"{static['directory']}/".startswith(f"{str(below).rstrip('/')}/"):
        yield problem(
            f"{at}.untrusted_below",
            below,
            f"is not above {static['directory']}; allowed: that directory, or one above it",
            static,
        )
    if int(static.get("max_age_seconds", 0)) < 0:
        yield problem(
            f"{at}.max_age_seconds",
            static["max_age_seconds"],
            "is too small; allowed: 0 or more seconds",
            static,
        )


def _certificate(at: str, certificate: Mapping[str, Any], inventory: Path) -> Iterator[str]:
    files = {}
    for key in ("chain", "key"):
        text = str(certificate[key])
        if certificate.get("remote"):
            if not text.startswith("/"):
                yield problem(
                    f"{at}.{key}", text, "is not an absolute path on the target", certificate
                )
            continue
        files[key] = file_on_the_control_machine(text, inventory)
        if not files[key].is_file():
            yield problem(
                f"{at}.{key}",
                text,
                f"is no file on the control machine ({files[key]}); allowed: an absolute path, or "
                "one relative to the inventory",
                certificate,
            )
    if len(files) == 2 and all(file.is_file() for file in files.values()):  # noqa: PLR2004
        yield from _pair(at, certificate, files["chain"], files["key"])


def _pair(at: str, certificate: Mapping[str, Any], chain: Path, key: Path) -> Iterator[str]:
    """One wrong pair would keep nginx from starting."""
    if key.read_bytes().startswith(VAULT):
        return
    try:
        # a password: or it would be asked for
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password="")
    except (OSError, ValueError) as error:
        yield problem(
            at,
            f"{certificate['chain']}, {certificate['key']}",
            f"are no certificate and its key, both as PEM and the key without a password ({error})",
            certificate,
        )


def file_on_the_control_machine(text: str, inventory: Path) -> Path:
    """A file that a variable names; relative ones start at the inventory."""
    return (inventory / Path(text).expanduser()).resolve()


def shadowed(sites: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, int, str]]:
    """Static files in the way of another app, or of other static files.

    Args:
        sites: ``frontend_sites``, each right alone.

    Yields:
        The number of the site, that of its static files, and what they are in the way of.
    """
    names = {str(site["name"]): number for number, site in enumerate(sites)}
    told = set()
    for block in server_blocks(sites):
        taken: dict[str, str] = {}
        for static in block["static"]:
            host, url, name = block["names"][0], static["url"], static["app"]
            holder = next(
                location["site"]["name"]
                for location in block["locations"]
                if url.startswith(f"{location['path']}/")
            )
            other = holder if holder != name else taken.get(url)
            place = (names[name], static["number"])
            if other is not None and place not in told:
                told.add(place)
                yield (*place, f"{host}{url}, which is {other}'s")
            taken[url] = name
