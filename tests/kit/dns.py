"""A name server on loopback, which gives the answers that a test sets."""

import asyncio
from collections.abc import AsyncIterator, Container, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.kit.mesh import address


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """`answers` maps names to IPv4 addresses; other names do not exist. The server is silent while `is_away`, and about
    names in `silent`. `asked` are the names of the queries."""

    at: str
    answers: dict[str, Iterable[str]] = field(default_factory=dict)
    ttl: int = 0
    is_away: bool = False
    queries: int = 0
    silent: Container[str] = ()
    asked: set[str] = field(default_factory=set)
    _held: list[tuple[bytes, tuple[str, int]]] = field(default_factory=list)

    def release(self) -> None:
        """Answer the queries that are still unanswered."""
        self.silent = ()
        while self._held:
            self.datagram_received(*self._held.pop())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        self.queries += 1
        if self.is_away:
            return
        query = dns.message.from_wire(data)
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True)
        self.asked.add(name)
        if name in self.silent:
            self._held.append((data, sender))
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        addresses = self.answers.get(name)
        if addresses is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A and addresses:
            response.answer.append(dns.rrset.from_text_list(question.name, self.ttl, "IN", "A", addresses))
        self._transport.sendto(response.to_wire(), sender)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    ip = address()
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(""), local_addr=(ip, 0))
    server.at = "{}:{}".format(*transport.get_extra_info("sockname"))
    try:
        yield server
    finally:
        transport.close()
