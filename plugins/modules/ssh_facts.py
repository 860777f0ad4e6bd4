#!/usr/bin/python
"""Learn how ssh reaches this machine: its ports, this very connection, and whose keys it takes."""

from __future__ import annotations

DOCUMENTATION = """
module: ssh_facts
short_description: Learn how ssh reaches a machine
version_added: 0.1.0
description:
  - Looks at what sshd is configured for, at what listens for it now, and at the connection that
    this module itself came in by. Changes nothing.
options:
  user:
    description: Who Ansible logs in as, where that can't be seen.
    type: str
attributes:
  check_mode:
    support: full
    description: Changes nothing anyway.
author: the kechi.vps authors (!UNKNOWN)
"""

EXAMPLES = """
- name: Learn how ssh comes in
  kechi.vps.ssh_facts:
  register: ssh
"""

RETURN = """
ports:
  description: The TCP ports that ssh uses, or may use after its next start.
  returned: always
  type: list
  elements: int
connection:
  description: This connection (its ends, as in C(SSH_CONNECTION)); empty where it is not ssh's.
  returned: always
  type: str
login:
  description: The user that has logged in.
  returned: always
  type: str
has_key:
  description: Whether sshd takes a key of that user.
  returned: always
  type: bool
listening:
  description: All that listens for TCP or UDP, as C(protocol), C(address), C(port), C(programs).
  returned: always
  type: list
  elements: dict
"""

import os
import pwd
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

PROC = Path("/proc")
SSHD = "/usr/sbin/sshd"
# all that a Match may ask for, or `sshd -T` fails
CONNECTION = "user=%s,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22"
SOCKET_UNITS = ("ssh.socket", "sshd.socket")


def configured_ports(settings: str) -> set[int]:
    """The ports of `sshd -T`: those of its addresses, which say what becomes of `port`."""
    return {int(port) for port in re.findall(r"^listenaddress .*:(\d+)$", settings, re.MULTILINE)}


def listening(sockets: str) -> list[dict[str, Any]]:
    """What listens for TCP or UDP now, by `ss -Hltunp`."""
    found = []
    for line in sockets.splitlines():
        protocol, _state, _in, _out, local = line.split()[:5]
        address, _, port = local.rpartition(":")
        programs = sorted(set(re.findall(r'\("([^"]*)",pid=', line)))
        found.append({"protocol": protocol, "address": address, "port": int(port),
                      "programs": programs})  # fmt: skip
    return found


def listening_ports(sockets: list[dict[str, Any]]) -> set[int]:
    """The ports that an sshd listens on now."""
    return {
        socket["port"]
        for socket in sockets
        if socket["protocol"] == "tcp" and any(map(re.compile("sshd").match, socket["programs"]))
    }


def socket_unit_ports(shown: str) -> set[int]:
    """The ports of systemd's sockets for sshd, by `systemctl show`, where they are in use."""
    ports: set[int] = set()
    for unit in shown.split("\n\n"):
        in_use = re.search(r"^(ActiveState=active|UnitFileState=enabled)", unit, re.MULTILINE)
        found = re.findall(r"^Listen=(?:.*:)?(\d+) \(Stream\)$", unit, re.MULTILINE)
        ports |= {int(port) for port in found} if in_use else set()
    return ports


def key_files(settings: str, user: str, home: str) -> list[str]:
    """Where sshd looks for this user's authorized keys, by `sshd -T`."""
    (words,) = re.findall(r"^authorizedkeysfile (.*)$", settings, re.MULTILINE)
    tokens = {"%%": "%", "%h": home, "%u": user}
    named = [
        re.sub("%[%hu]", lambda found: tokens[found[0]], word)
        for word in words.split()
        if word != "none"
    ]
    return [os.path.join(home, name) for name in named]  # noqa: PTH118 - the text sshd would use


def has_other_keys(settings: str) -> bool:
    """Whether keys may also come from a certificate's authority or from a command."""
    found = re.findall(r"^(?:trustedusercakeys|authorizedkeyscommand) (.*)$", settings, re.M)
    return any(value != "none" for value in found)


@dataclass(frozen=True)
class Session:
    """One login by ssh."""

    connection: str  # SSH_CONNECTION: the client's address and port, the server's
    login: str

    @property
    def port(self) -> int:
        """The server's port."""
        return int(self.connection.split()[3])


def session(processes: Iterator[tuple[int, dict[str, str]]]) -> Session | None:
    """The login that a process descends from.

    Args:
        processes: it and its ancestors, the nearest first: the user and the environment of each.
            sudo takes SSH_CONNECTION away, so that it may be only the farther ones that have it.
    """
    found = None
    for uid, environment in processes:
        if "SSH_CONNECTION" in environment:
            found = Session(environment["SSH_CONNECTION"], _name(uid))
    return found


def ancestors(pid: int, proc: Path = PROC) -> Iterator[tuple[int, dict[str, str]]]:
    """The user and the environment of a process and all that it descends from."""
    while pid > 0:
        folder = proc / str(pid)
        try:
            status = (folder / "status").read_text(errors="replace")
        except OSError:
            return
        try:
            environ = (folder / "environ").read_bytes().decode(errors="replace")
        except OSError:  # another user's
            environ = ""
        variables = (entry.split("=", 1) for entry in environ.split("\0") if "=" in entry)
        yield int(_field(status, "Uid")), dict(variables)
        pid = int(_field(status, "PPid"))


def _field(status: str, name: str) -> str:
    (line,) = (line for line in status.splitlines() if line.startswith(f"{name}:"))
    return line.split()[1]


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class Sshd:
    """The effects: asks sshd and systemd."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def listening(self) -> list[dict[str, Any]]:
        """All that listens, ssh or not."""
        return listening(self._ask("ss", "-Hltunp"))

    def ports(self, sockets: list[dict[str, Any]]) -> set[int]:
        """All the ports that ssh has or may have."""
        shown = "--property=Listen,ActiveState,UnitFileState"
        units = socket_unit_ports(self._ask("systemctl", "show", shown, *SOCKET_UNITS))
        return configured_ports(self.settings()) | listening_ports(sockets) | units

    def settings(self, user: str = "nobody") -> str:
        """The whole configuration, as it is for one user; nothing where there is no sshd."""
        if not Path(SSHD).exists():
            return ""
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # `sshd -T` wants it, as a start does
        return self._ask(SSHD, "-T", "-C", CONNECTION % user)

    def has_key(self, user: str) -> bool:
        """Whether there is a usable key for this user."""
        settings = self.settings(user)
        if not settings or "\npubkeyauthentication yes\n" not in settings:
            return False
        try:
            home = pwd.getpwnam(user).pw_dir
        except KeyError:
            return False
        files = [name for name in key_files(settings, user, home) if Path(name).is_file()]
        usable = (self.module.run_command(["ssh-keygen", "-l", "-f", name])[0] for name in files)
        return has_other_keys(settings) or 0 in usable

    def _ask(self, *command: str) -> str:
        rc, out, err = self.module.run_command([*command])
        if rc:
            self.module.fail_json(msg=f"{' '.join(command)}: {(err or out).strip()}")
        return str(out)


def main() -> None:
    """Ask."""
    module = AnsibleModule(argument_spec={"user": {"type": "str"}}, supports_check_mode=True)
    sshd = Sshd(module)
    here = session(ancestors(os.getpid()))
    if here:
        login = here.login
    else:
        login = module.params["user"] or os.environ.get("SUDO_USER") or _name(os.getuid())
    sockets = sshd.listening()
    module.exit_json(
        changed=False,
        listening=sockets,
        ports=sorted(sshd.ports(sockets) | ({here.port} if here else set())),
        connection=here.connection if here else "",
        login=login,
        has_key=sshd.has_key(login),
    )


if __name__ == "__main__":
    main()
