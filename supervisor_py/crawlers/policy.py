"""Whether a request was one that the robots.txt of its vhost disallows."""

from functools import lru_cache
from pathlib import Path

from ..errors import FatalError, from_os_error
from . import robots
from .claims import claim
from .robots import File, Obeyed
from .visits import Allows

_SUFFIX = ".txt"
_LONG = (
    200  # characters of an address that is not remembered: visitors make up as many as they like
)


def of_directory(directory: Path) -> dict[str, Allows]:
    """Read VHOST.txt of each vhost; raises FatalError."""
    try:
        files = {
            file.name.removesuffix(_SUFFIX).lower(): robots.parse(file.read_bytes())
            for file in directory.glob(f"*{_SUFFIX}")
        }
    except OSError as error:
        raise from_os_error(str(directory), error) from error
    if not files:
        raise FatalError(f"{directory}: has no VHOST{_SUFFIX}, such as example.org{_SUFFIX}", 1)
    return {vhost: of_file(file) for vhost, file in files.items()}


def of_file(file: File) -> Allows:
    """Return what tells whether a User-Agent may have an address. Names it doesn't, it is any."""
    groups: dict[str, Obeyed] = {}  # no more than the file has, whatever they call themselves

    @lru_cache(1024)
    def obeyed(agent: str) -> Obeyed | None:
        found = robots.obeyed(file, claim(agent).name or robots.STAR)
        return found and groups.setdefault(found.name.lower(), found)

    @lru_cache(2048)
    def of_group(found: Obeyed, uri: str) -> bool:
        return found.allows(uri)

    def allows(agent: str, uri: str) -> bool:
        found = obeyed(agent)
        if found is None or not uri.startswith("/"):
            return True
        return found.allows(uri) if len(uri) > _LONG else of_group(found, uri)

    return allows
