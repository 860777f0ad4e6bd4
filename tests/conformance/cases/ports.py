"""--port, --path and --backlog: what workers see of the sockets."""

import errno
import socket
from collections.abc import Callable, Iterator

from .. import deviations as by
from ..deviations import refused
from ..harness import Case, Differs, Run

# One for each shape of a --port value that is taken; @P1@ is the port.
TAKEN = {
    "bare": "@P1@",
    "bare-zero": "0",
    "bare-spaces": "  @P1@ ",
    "bare-leading-zeros": "00@P1@",
    "bare-fd": "@P1@=9",
    "bare-space-before-fd": "@P1@ =9",
    "udp": "u@P1@",
    "udp-fd": "u@P1@=9",
    "udp-zero": "u0",
    "ip4": "127.0.0.1:@P1@",
    "ip4-spaces": " 127.0.0.1:@P1@ ",
    "ip4-space-after-colon": "127.0.0.1: @P1@",
    "ip4-zero": "127.0.0.1:0",
    "ip4-any": "0.0.0.0:@P1@",
    "ip4-fd": "127.0.0.1:@P1@=9",
    "ip4-udp": "127.0.0.1:u@P1@",
    "ip4-udp-fd": "127.0.0.1:u@P1@=9",
    "ip4-in-brackets": "[127.0.0.1]:@P1@",
    "ip4-in-brackets-udp-fd": "[127.0.0.1]:u@P1@=9",
    "ip4-short": "127.1:@P1@",
    "ip4-number": "2130706433:@P1@",
    "name": "localhost:@P1@",
    "name-upper-case": "LOCALHOST:@P1@",
    "name-udp-fd": "localhost:u@P1@=12",
    "ip6": "[::1]:@P1@",
    "ip6-spaces": " [ ::1] : @P1@ ",
    "ip6-fd": "[::1]:@P1@=9",
    "ip6-udp": "[::1]:u@P1@",
    "ip6-udp-fd": "[::1]:u@P1@=9",
    "ip6-without-brackets": "::1:@P1@",
    "ip6-any": "[::]:@P1@",
    "ip6-long": "[0:0:0:0:0:0:0:1]:@P1@",
    "ip6-of-ip4": "[::ffff:127.0.0.1]:@P1@",
    "ip6-zero": "[::1]:0",
}
REFUSED = {
    "words": "http",
    "negative": "-1",
    "plus": "+80",
    "upper-case-udp": "U@P1@",
    "udp-alone": "u",
    "udp-twice": "uu@P1@",
    "udp-space": "u @P1@",
    "fd-empty": "@P1@=",
    "fd-word": "@P1@=x",
    "fd-space": "@P1@= 9",
    "fd-negative": "@P1@=-1",
    "fd-twice": "@P1@=9=9",
    "decimal": "80.5",
    "host-without-port": "127.0.0.1:",
    "host-and-word": "127.0.0.1:http",
    "host-alone": "127.0.0.1",
    "comma": "@P1@,@P2@",
    "semicolon": "@P1@;@P2@",
    "empty-host": ":@P1@",
    "star-host": "*:@P1@",
    "no-such-host": "no such host:@P1@",
    "ip4-out-of-range": "127.0.0.256:@P1@",
    "ip6-two-ports": "[::1]:@P1@:@P2@",
    "bracket-open": "[127.0.0.1:@P1@",
    "bracket-close": "127.0.0.1]:@P1@",
    "brackets-empty": "[]:@P1@",
    "path": "@DIR@/sock",
    "unicode-digits": "\u0661\u0662\u0663\u0664",
    "not-an-address-of-ours": "192.0.2.1:@P1@",
}
SOME = ("bare", "udp", "ip4", "ip6", "name")


def cases() -> Iterator[Case]:
    for name, value in TAKEN.items():
        yield Case(f"port-{name}", [f"--port={value}"])
    for name, value in REFUSED.items():
        yield Case(f"port-refused-{name}", [f"--port={value}"])
    for first in SOME:
        for second in SOME[1:4]:
            options = [f"--port={TAKEN[first]}", f"--port={TAKEN[second].replace('1@', '2@')}"]
            yield Case(f"ports-{first}-then-{second}", options)
    yield Case(
        "port-refused-ip6-wrong",
        ["--port=[::g]:@P1@"],
        deviates={"messages": Differs(by.REASON, "failed to resolve host:::g")},
    )
    yield from _deviating()
    yield from _in_use()
    yield from _paths()
    yield from _backlogs()


def _deviating() -> Iterator[Case]:
    for value in ("65536", "70000", "127.0.0.1:99999", "u65536", "[::1]:65536"):
        yield Case(
            f"port-out-of-range-{value}",
            [f"--port={value}"],
            deviates=refused(
                by.PORT_RANGE, f"value:{value.replace('[', '.').replace(']', '.')}", 255
            ),
        )
    first = "--port=127.0.0.1:@P1@"
    yield Case(
        "port-refused-after-another",
        [f"{first}=9", "--port=x"],
        deviates={
            "messages": Differs(by.CHECKED, "invalid ``port'' value:x"),
            "exit status": Differs(by.LEFT_OVER, 255),
        },
    )
    yield Case(
        "ports-with-the-same-fd",
        [f"{first}=9", "--port=127.0.0.1:@P2@=9"],
        deviates=refused(by.SAME_FD, "fd is taken by --port=127.0.0.1:<port 1>=9", 1),
    )
    for number in (1, 2):
        yield Case(
            f"port-fd-{number}",
            [f"{first}={number}"],
            deviates=refused(by.SAME_FD, f"fd {number} is taken for messages", 255),
        )
    yield Case("port-fd-0", [f"{first}=0"])
    yield Case(
        "port-fd-too-high",
        [f"{first}=99999999"],
        deviates={
            "messages": Differs(by.SAME_FD, "fd 99999999 is too high"),
            "exit status": Differs(by.SAME_FD, 1),
        },
    )


def _taken(family: int, kind: int, host: str, shared: bool = False) -> Callable[[Run], None]:
    def prelude(run: Run) -> None:
        one = socket.socket(family, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, shared)
        run.held.append(one)
        try:
            one.bind((host, run.ports[0]))
            if kind == socket.SOCK_STREAM:
                one.listen()
        except OSError as error:  # a machine without IPv6: then nobody has it
            if error.errno == errno.EADDRINUSE:
                raise

    return prelude


def _in_use() -> Iterator[Case]:
    ip4, ip6 = socket.AF_INET, socket.AF_INET6
    tcp, udp = socket.SOCK_STREAM, socket.SOCK_DGRAM
    for name, value, family, kind, host in (
        ("tcp", "127.0.0.1:@P1@", ip4, tcp, "127.0.0.1"),
        ("tcp-on-all-addresses", "@P1@", ip4, tcp, "127.0.0.1"),
        ("udp", "u@P1@", ip4, udp, "127.0.0.1"),
        ("ip6", "[::1]:@P1@", ip6, tcp, "::1"),
        ("tcp-of-udp", "127.0.0.1:@P1@", ip4, udp, "127.0.0.1"),
        ("ip4-of-ip6", "127.0.0.1:@P1@", ip6, tcp, "::1"),
    ):
        files = ["--path=@DIR@/listen", "--pid-file=@DIR@/pid"]
        prelude = _taken(family, kind, host)
        yield Case(f"port-in-use-{name}", [f"--port={value}", *files], prelude=prelude)
    yield Case(
        "port-in-use-udp-that-may-be-shared",
        ["--port=127.0.0.1:u@P1@"],
        prelude=_taken(ip4, udp, "127.0.0.1", shared=True),
        deviates=refused(by.SHARED_UDP, "failed to bind to 127.0.0.1:<port 1>", 98),
    )
    yield Case(
        "port-twice",
        ["--port=127.0.0.1:@P1@", "--port=127.0.0.1:@P1@"],
        deviates={
            "messages": Differs(by.CHECKED, "the same as --port=127.0.0.1:<port 1>"),
            "?exit status": Differs(by.CHECKED, 98),
        },
    )


def _stale(run: Run) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(run.path("listen")))


def _stale_behind_link(run: Run) -> None:
    _stale(run)
    run.path("link").symlink_to("listen")


def _paths() -> Iterator[Case]:
    path = "--path=@DIR@/listen"
    yield Case("path", [path])
    yield Case("path-relative", ["--path=listen"])
    yield Case("path-relative-with-dir", ["--path=listen", "--dir=work"], files={"work/x": ""})
    yield Case("path-with-spaces-and-equals", ["--path=@DIR@/a b=c"])
    yield Case("path-of-other-letters", ["--path=@DIR@/\u00e9\u3042"])
    yield Case("path-colon", ["--path=@DIR@/a:80"])
    yield Case("path-twice", [path, path + "2"])
    yield Case("path-before-port", [path, "--port=127.0.0.1:@P1@", "--path=other"])
    yield Case("path-in-no-directory", ["--path=@DIR@/none/listen"])
    yield Case(
        "path-too-long",
        [f"--path=@DIR@/{'x' * 120}"],
        deviates=refused(by.LONG_PATH, "failed to listen to file", 1),
    )
    yield Case(
        "path-is-a-directory",
        ["--path=@DIR@/work"],
        files={"work/x": ""},
        deviates={"messages": Differs(by.PATHS, "it exists and is not a socket")},
    )
    yield Case("path-stale", [path], prelude=_stale)
    yield Case(
        "path-link-to-stale",
        ["--path=@DIR@/link"],
        prelude=_stale_behind_link,
        deviates=refused(by.PATHS, "it exists and is not a socket", 98),
    )
    yield Case(
        "path-is-a-file",
        [path],
        files={"listen": "precious"},
        deviates=refused(by.PATHS, "it exists and is not a socket", 98),
    )
    yield Case(
        "path-with-semicolon", ["--path=@DIR@/a;b"], deviates=refused(by.CHECKED, 'has a ";"', 1)
    )
    yield Case(
        "path-empty", ["--path", ""], deviates=refused(by.CHECKED, "failed to listen to file", 1)
    )
    for umask in (0o000, 0o077, 0o777):
        yield Case(
            f"path-mode-with-umask-{umask:03o}",
            [path],
            program=["sh", "-c", "umask > @DIR@/umask; exec @RUN@"],
            umask=umask,
        )


def _backlogs() -> Iterator[Case]:
    for size in ("1", "5", "100"):
        yield Case(f"backlog-{size}", [f"--backlog={size}", "--port=@P1@", "--port=[::1]:@P2@"])
    for size in ("1", "5", "20"):
        yield Case(
            f"backlog-{size}-of-a-path",
            [f"--backlog={size}", "--path=@DIR@/listen"],
            plan={0: {"fill": True}},
        )
    yield Case("backlog-is-capped", ["--backlog=1000000", "--port=@P1@"])
