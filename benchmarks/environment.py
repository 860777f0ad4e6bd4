"""The virtualenv that peers and apps run in, made once for each interpreter."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements-bench.txt"
PYENV = Path.home() / ".pyenv" / "versions"


class NoInterpreterError(RuntimeError):
    """There is no Python of that version on this machine."""


def say(text: str) -> None:
    """Tell who waits, beside the table on stdout."""
    print(text, file=sys.stderr, flush=True)


def interpreter(version: str = "") -> str:
    """Return a Python of a version ("3.13"); of none, the system's, which is what a VPS has.

    Raises NoInterpreterError.
    """
    if not version:
        return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    built = sorted(PYENV.glob(f"{version}.*/bin/python{version}"))
    found = shutil.which(f"python{version}", path="/usr/bin:/usr/local/bin")
    if found or built:
        return found or str(built[-1])
    raise NoInterpreterError(f"python{version} is neither in /usr/bin nor in {PYENV}")


def environment(python: str) -> Path | None:
    """Make a virtualenv with the peers in it, once, and return its bin/; None where it can't be.

    Our own package is not in it, and is compiled where it is, as an installation would do it.
    """
    ours = [python, "-m", "compileall", "-q", str(ROOT / "supervisor_py")]
    subprocess.run(ours, check=True)
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + python.encode()).hexdigest()[:12]
    place = ROOT / ".cache" / f"bench-{digest}"
    if (place / "complete").exists():
        return place / "bin"
    say(f"Making {place.relative_to(ROOT)} with all that is compared, for {python}")
    shutil.rmtree(place, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    steps = (
        [python, "-m", "venv", "--without-pip", str(place)],
        [*pip, f"--python={place}/bin/python", "install", "--no-deps", "-r", str(REQUIREMENTS)],
        [*pip, f"--python={place}/bin/python", "check"],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            say(done.stderr.strip() or done.stdout.strip())
            return None
    (place / "complete").touch()
    return place / "bin"


def versions(python: Path, *packages: str) -> dict[str, str]:
    """Return the versions of an environment's Python and of packages in it."""
    program = (
        "import json, platform, sys\nfrom importlib.metadata import version\n"
        "print(json.dumps({'Python': platform.python_version(),"
        " **{name: version(name) for name in sys.argv[1:]}}))"
    )
    command = [str(python), "-c", program, *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
