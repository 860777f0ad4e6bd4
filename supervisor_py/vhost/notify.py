"""Tell the super-daemon how the generation is doing: sd_notify(3)'s protocol."""

import socket
from collections.abc import Callable, MutableMapping

Notify = Callable[[str], None]


def notifier(environment: MutableMapping[str, str]) -> Notify:
    """Take NOTIFY_SOCKET out of an environment, and return what sends to it.

    Taken out, because gunicorn would say READY=1 before a worker runs, and apps have no say in it.
    Sending to nobody, or to one who has gone, does nothing.
    """
    address = environment.pop("NOTIFY_SOCKET", "")

    def notify(state: str) -> None:
        if not address:
            return
        target = f"\0{address[1:]}" if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto(state.encode(), target)
            except OSError:
                return

    return notify
