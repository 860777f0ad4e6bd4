"""A real DNS server on loopback, with the names that a test gives it."""

import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

SILENT, BROKEN = "silent", "broken"  # instead of a name: no answer; an answer of SERVFAIL


class DnsServer:
    """Answers over UDP. `asked` are the names that it was asked for, with their types."""

    def __init__(
        self, reverse: Mapping[str, str | list[str]], forward: Mapping[str, str | list[str]]
    ) -> None:
        self._answers = {
            (dns.reversename.from_address(address).to_text(), "PTR"): names
            for address, names in reverse.items()
        } | {
            (f"{name}.", "AAAA" if ":" in str(addresses) else "A"): addresses
            for name, addresses in forward.items()
        }
        self.asked: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            wire, client = self._socket.recvfrom(4096)
            if not wire:
                return
            question = dns.message.from_wire(wire)
            name = question.question[0].name.to_text()
            kind = dns.rdatatype.to_text(question.question[0].rdtype)
            self.asked.append((name, kind))
            found = self._answers.get((name, kind))
            if found == SILENT:
                continue
            answer = dns.message.make_response(question)
            answer.flags |= dns.flags.RA
            if found == BROKEN:
                answer.set_rcode(dns.rcode.SERVFAIL)
            elif found is None:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            else:
                texts = [found] if isinstance(found, str) else found
                values = [f"{text}." if kind == "PTR" else text for text in texts]
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *values))
            self._socket.sendto(answer.to_wire(), client)
