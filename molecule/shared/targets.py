"""Who asks the sites of molecule/shared/sites: all kinds of clients, through nginx and directly."""

from __future__ import annotations

from harness.load import Target

POOLS = ("main", "clock")
SOCKETS = {
    "/run/kechi/main.sock": [
        Target("new", "motd.example"),
        Target("new", "blog.example"),
        Target("keep-alive", "motd.example"),
        Target("keep-alive", "blog.example"),
        Target("slow", "motd.example", "/slow?seconds=2"),
        Target("upload", "echo.example"),
    ],
    "/run/kechi/main/notes.sock": [
        Target("new", "notes.example"),
        Target("keep-alive", "notes.example"),
    ],
    "/run/kechi/main/team.sock": [Target("rare", "team.example")],
    "/run/kechi/clock.sock": [
        Target("new", "clock.example"),
        Target("keep-alive", "clock.example"),
        Target("slow", "clock.example", "/slow?seconds=2"),
    ],
}
TARGETS = [target for targets in SOCKETS.values() for target in targets]


def pool_of(target: Target) -> str:
    """The pool that has its site."""
    return "clock" if target.host == "clock.example" else "main"
