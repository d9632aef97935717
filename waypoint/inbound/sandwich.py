"""Sandwich mode: a ztunnel terminates the tunnels, and connects to this waypoint with the PROXY protocol.

The ztunnel has verified the client, and its header is trusted. Such connections are therefore accepted only from
loopback and from `proxy_trusted_addresses`. What follows the header is served like a tunnel.
"""

import asyncio
import ipaddress
import logging
import socket
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from l4.config.settings import InvalidSetting, Section
from l4.discovery.mesh import Mesh
from l4.hbone.settings import DrainSettings, HboneSettings
from l4.net.capacity import Capacity
from l4.net.copy import reset_on_close
from l4.net.listener import Listener, leave_to_successor
from l4.net.proxy_protocol import InvalidProxyHeader, ProxyHeader, parse
from l4.net.sockets import Socket
from policies.attributes import Identity, Peer
from waypoint.config.snapshot import why_not_served
from waypoint.data_path import Connection, DataPath
from waypoint.inbound.terminate import Terminator

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ProxyProtocolSettings(Section):
    title = "PROXY protocol"

    proxy_trusted_addresses: str = ""
    """Addresses and networks, separated by commas, from which the PROXY protocol is believed. Loopback always is."""

    @property
    def proxy_trusted_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        names = (name.strip() for name in self.proxy_trusted_addresses.split(","))
        return tuple(ipaddress.ip_network(name) for name in names if name)

    def check(self) -> None:
        try:
            _ = self.proxy_trusted_networks
        except ValueError as error:
            advice = "use addresses or networks such as 10.0.0.0/8"
            raise InvalidSetting(f"PROXY_TRUSTED_ADDRESSES: {error}; {advice}") from None


class ProxyServer:
    """One listening socket. It shares `capacity` with HBONE connections."""

    def __init__(self, sock: Socket, path: DataPath, terminator: Terminator, capacity: Capacity) -> None:
        self.path = path
        self.terminator = terminator
        self._capacity = capacity
        self._trusted = path.settings.of(ProxyProtocolSettings).proxy_trusted_networks
        self._transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._listener = Listener(sock, self._accepted, path.telemetry.count_refusal)

    @property
    def connection_count(self) -> int:
        return sum(not it.is_closing() for it in self._transports)

    async def leave_to_successor(self) -> None:
        """Leave new connections to another process that listens at this address, if there is one."""
        await leave_to_successor((self._listener,))

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, let connections finish for `seconds`, then close the rest."""
        self._listener.finish()
        waiting: dict[asyncio.Transport, tuple[int, float]] = {}
        try:
            async with asyncio.timeout(seconds):
                while self.connection_count:  # transports report their end only to their protocol
                    await asyncio.sleep(_POLL_SECONDS)
                    self._cut_stalled(waiting)
        except TimeoutError:
            pass
        for transport in list(self._transports):
            transport.abort()

    def _cut_stalled(self, waiting: dict[asyncio.Transport, tuple[int, float]]) -> None:
        """Close connections whose peer has not read for too long. `waiting` holds the amount, and since when."""
        now, seconds = self.path.loop.time(), self.path.settings.of(DrainSettings).drain_silence_seconds
        for transport in list(self._transports):
            size = 0 if transport.is_closing() else transport.get_write_buffer_size()
            before, since = waiting.get(transport, (0, now))
            if not size or size != before:
                waiting[transport] = size, now
            elif now - since >= seconds:
                transport.abort()

    def _accepted(self, sock: socket.socket, address: tuple[str, int]) -> None:
        if not is_trusted_sender(address[0], self._trusted):
            log.warning("PROXY connection from %s:%d refused: not in PROXY_TRUSTED_ADDRESSES", *address)
            self.path.telemetry.count_refusal("proxy_trusted_addresses")
            sock.close()
        elif not self._capacity.take():
            self.path.telemetry.count_refusal(self._capacity.limit)
            sock.close()
        else:
            self.path.spawn(self._connect(sock))

    async def _connect(self, sock: socket.socket) -> None:
        try:
            transport, _ = await self.path.loop.connect_accepted_socket(lambda: _Greeting(self), sock)
        except BaseException:
            self._capacity.give_back()
            raise
        # The transport's protocol changes, so no protocol sees its whole life; weak references end with it.
        weakref.finalize(transport, self._capacity.give_back).atexit = False
        self._transports.add(transport)


def is_trusted_sender(ip: str, networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    address = ipaddress.ip_address(ip)
    return address.is_loopback or any(address in network for network in networks)


class _Greeting(asyncio.Protocol):
    """Reads the header, and then hands over."""

    def __init__(self, server: ProxyServer) -> None:
        self._server = server
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        seconds = self._server.path.settings.of(HboneSettings).handshake_seconds
        self._timer = self._server.path.loop.call_later(
            seconds, self._refuse, "the header did not arrive in time", "handshake_seconds"
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            header = parse(self._data)
            if header is not None:
                self._serve(header)
        except InvalidProxyHeader as error:
            self._refuse(str(error), "malformed_proxy")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()

    def _serve(self, header: ProxyHeader) -> None:
        self._timer.cancel()
        if header.source is None or header.destination is None:
            self._transport.close()
            return
        path = self._server.path
        peer = Peer(self._identity(header.identity), *header.source)
        snapshot = path.holder.current
        authority = header.destination
        if header.hostname and snapshot.destination(authority) is None:
            authority = (header.hostname, authority[1])
        destination = snapshot.destination(authority)
        if destination is None:
            self._refuse(why_not_served(snapshot, authority), "")
            return
        front = self._server.terminator.front(Connection(path, peer, authority, b""), destination)
        self._transport.set_protocol(front)
        front.connection_made(self._transport)
        if rest := self._data[header.size :]:
            front.data_received(rest)

    def _identity(self, uri: str) -> Identity | None:
        """Return the client's identity, or None if it did not authenticate to the ztunnel."""
        if not uri:
            return None
        try:
            identity = Identity.parse(uri)
        except ValueError as error:
            raise InvalidProxyHeader(f"the identity: {error}") from None
        if identity.trust_domain not in self._server.path.settings.of(Mesh).trust_domains:
            raise InvalidProxyHeader(f"the identity's trust domain {identity.trust_domain!r} is not accepted")
        return identity

    def _refuse(self, why: str, reason: str) -> None:
        self._timer.cancel()
        log.info("PROXY connection from %s refused: %s", self._transport.get_extra_info("peername"), why)
        self._server.path.telemetry.count_refusal(reason)
        reset_on_close(self._transport.get_extra_info("socket"))
        self._transport.abort()
