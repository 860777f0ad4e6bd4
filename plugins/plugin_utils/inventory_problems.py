"""Hosts that Ansible reads from files that are no inventory, such as a secret beside one.

Of a directory that is given as inventory, Ansible takes each file for one, in sub-directories, too:
a line with one word is a host's name. Such a name may be a secret, so no sentence here has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

FORMER_SECRETS = "secrets"  # of copies of the example before there was .secrets
SECRETS = ".secrets"  # Ansible skips what begins with a dot, whatever its settings
VARIABLES = ("host_vars", "group_vars", "vars_plugins")  # it skips these, too
READ_BYTES = 1_000_000


def origins(hosts: Iterable[str], sources: Sequence[str]) -> dict[str, str]:
    """The file that each host comes from, "" where none has its name in it.

    Ansible itself does not say before the first play.
    """
    texts = {str(file): _text(file) for source in sources for file in _files(Path(source))}
    return {
        host: next((file for file, text in texts.items() if host in text), "") for host in hosts
    }


def problems(files: Mapping[str, str], sources: Sequence[str]) -> Iterator[str]:
    """Why playbooks must not begin.

    Args:
        files: the hosts that are in no group, and the file that each comes from.
        sources: what was given with `-i`.
    """
    former = [
        folder
        for source in sources
        if (folder := Path(source, FORMER_SECRETS)).is_dir() and any(folder.iterdir())
    ]
    for folder in former:
        shown, parent = _shown(folder), _shown(folder.parent)
        yield (
            f"{shown}: Ansible takes the secrets in it for hosts, and would show them; allowed:"
            f" {SECRETS}, which it does not read. To move them, and what refers to them:"
            f" mv {shown} {parent}/{SECRETS} &&"
            f" sed -i s,/{FORMER_SECRETS}/,/{SECRETS}/, {parent}/*_vars/*.yml"
        )
    for file, number in sorted(Counter(files.values()).items()):
        if not any(Path(file).is_relative_to(folder) for folder in former):
            hosts = "1 host" if number == 1 else f"{number} hosts"
            yield (
                f"{_shown(Path(file)) if file else 'the inventory'}: {hosts} of no group; allowed:"
                " hosts in a group, such as `vps` in inventory/example/hosts.yml, as each line of a"
                " file that is no inventory would be a host, too (a file whose name begins with a"
                " dot is not read)"
            )


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    elif source.is_dir():
        for path in sorted(source.iterdir()):
            if not path.name.startswith(".") and path.name not in VARIABLES:
                yield from _files(path)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return content.read(READ_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
