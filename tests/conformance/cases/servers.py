"""Servers written for Perl's: they find their sockets by Server::Starter's own server_ports."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from ..harness import Case, Run

# Answers each connection with its generation and the name of the socket that took it.
SERVER = """\
use strict; use warnings;
use IO::Select; use IO::Socket;
use Server::Starter qw(server_ports);
my $ports = server_ports();
my (%names, $all);
$all = IO::Select->new;
for my $name (sort keys %$ports) {
    my $one = IO::Socket->new_from_fd($ports->{$name}, 'r+') or die "$name: $!";
    $names{fileno $one} = $name;
    $all->add($one);
}
open my $up, '>', "up-$ENV{SERVER_STARTER_GENERATION}" or die $!;
while (1) {
    for my $one ($all->can_read) {
        my $got = $one->accept or next;
        print $got "$ENV{SERVER_STARTER_GENERATION} $names{fileno $one}\\n";
        close $got;
    }
}
"""


def cases() -> Iterator[Case]:
    for name, options in (
        ("tcp", ["--port=127.0.0.1:@P1@"]),
        ("ip6", ["--port=[::1]:@P1@"]),
        ("unix", ["--path=listen"]),
        ("all", ["--port=127.0.0.1:@P1@", "--port=@P2@", "--path=listen", "--path=@DIR@/other"]),
    ):
        yield Case(
            f"server-of-perl-{name}",
            options,
            _asked(options),
            program=["perl", "server.pl"],
            files={"server.pl": SERVER},
        )


def _asked(options: list[str]) -> Callable[[Run], None]:
    def script(run: Run) -> None:
        for number in (1, 2):
            if number > 1:
                run.signal("HUP")
            _wait_for(run, run.path(f"up-{number}"))
            if run.over():  # a machine without IPv6
                break
            if number > 1:
                run.wait_for("old worker ")
            for option in options:
                run.notes[f"answer {number} at {option}"] = _ask(run, run.fill_in(option))
        run.end()

    return script


def _wait_for(run: Run, file: Path) -> None:
    run.wait_until(lambda: run.over() or file.exists(), f"{file.name}, or the end")


def _ask(run: Run, option: str) -> str:
    kind, _, address = option.partition("=")
    if kind == "--path":
        path = run.path(address)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            return client.recv(1000).decode()
    host, _, port = address.rpartition(":")
    at = (host.strip("[]") or "127.0.0.1", int(port))
    with socket.create_connection(at, timeout=5) as client:
        return client.recv(1000).decode()
