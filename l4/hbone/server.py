"""Accept HBONE connections on a listening socket, and ask for a decision on each CONNECT.

Each connection starts with mutual TLS, with the certificate that is current at that moment. At most `max_handshakes`
handshakes run at a time, each for at most `handshake_seconds`; other connections wait in the kernel. If many are
active, no address may have more than its share, and its stalled handshakes are ended. The peer's identity must be in
one of our trust domains, or the connection is closed before a byte of HTTP/2 is answered. `on_refused` receives the
reason of each refusal: the name of a setting, or a word.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial

from l4.config.settings import Settings
from l4.hbone.connect import ConnectRequest, InvalidConnect
from l4.hbone.driver import Driver
from l4.hbone.handshakes import Handshakes
from l4.hbone.limits import hbone_reason
from l4.hbone.settings import HboneSettings
from l4.hbone.sources import Sources
from l4.hbone.tunnel import Tunnel
from l4.identity.certificate import InvalidPeer
from l4.identity.revocation import Revocations
from l4.identity.source import NoCertificate, WorkloadCertificate
from l4.identity.tls import accept, authenticate_client, peer_expires_at
from l4.net.capacity import Capacity
from l4.net.descriptors import OUT_OF_FILES
from l4.net.listener import Listener, leave_to_successor
from l4.net.sockets import Socket
from policies.attributes import Header, Headers, Peer

log = logging.getLogger(__name__)

_ROOM_SECONDS = 0.25
"""Interval of the search for stalled handshakes while there are too many."""


class IncomingTunnel:
    """A CONNECT that waits for an answer. Call `accept` or `refuse` once, at any time."""

    __slots__ = ("_driver", "_stream_id", "local", "peer", "request")

    def __init__(self, driver: Driver, stream_id: int, request: ConnectRequest, local: tuple[str, int]) -> None:
        self.request = request
        self.peer = driver.peer
        self.local = local
        self._driver = driver
        self._stream_id = stream_id

    def accept(self, protocol: asyncio.Protocol, headers: Sequence[Header] = ()) -> Tunnel | None:
        """Answer 200 and connect the tunnel to `protocol`. Returns None if the client has given up."""
        tunnel = self._driver.accept(self._stream_id, list(headers))
        if tunnel is not None:
            tunnel.start(protocol)
        return tunnel

    def refuse(self, status: int, headers: Sequence[Header] = ()) -> None:
        self._driver.refuse(self._stream_id, status, list(headers))


class HboneServer:
    """One listening socket. `on_connect` decides on each tunnel; requests other than CONNECT are rejected before."""

    __slots__ = (
        "_capacity",
        "_certificate",
        "_drivers",
        "_empty",
        "_handshake_seconds",
        "_handshakes",
        "_is_draining",
        "_listener",
        "_making_room",
        "_on_connect",
        "_on_refused",
        "_settings",
        "_sources",
        "_trust_domains",
    )

    def __init__(
        self,
        sock: Socket,
        *,
        certificate: Callable[[], WorkloadCertificate],
        trust_domains: frozenset[str],
        settings: Settings,
        on_connect: Callable[[IncomingTunnel], None],
        on_refused: Callable[[str], None] = lambda reason: None,
        capacity: Capacity | None = None,
    ) -> None:
        self._certificate = certificate
        self._trust_domains = trust_domains
        own = settings.of(HboneSettings)
        self._settings = settings
        self._handshake_seconds = own.handshake_seconds
        self._on_connect = on_connect
        self._on_refused = on_refused
        self._capacity = capacity or Capacity(own.max_connections)
        self._sources = Sources(own.handshakes_per_source, own.handshakes_per_source_per_second)
        self._handshakes = Handshakes(own.max_handshakes)
        self._making_room: asyncio.TimerHandle | None = None
        self._drivers: set[Driver] = set()
        self._is_draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._listener = Listener(sock, self._accepted, on_refused)

    @property
    def drivers(self) -> list[Driver]:
        return list(self._drivers)

    @property
    def connection_count(self) -> int:
        return len(self._drivers)

    @property
    def tunnel_count(self) -> int:
        return sum(driver.tunnel_count for driver in self._drivers)

    @property
    def address(self) -> tuple[str, int]:
        return self._listener.address

    def cut_revoked(self, revocations: Revocations) -> None:
        """Close connections of clients whose certificates have been revoked."""
        for driver in list(self._drivers):
            driver.cut_if_revoked(revocations)

    def leave(self) -> None:
        """Leave new connections to another process's listener at this address: see `Listener.leave`."""
        self._listener.leave()

    async def leave_to_successor(self) -> None:
        """The same if there is one, until it has happened: see `l4.net.listener.leave_to_successor`."""
        await leave_to_successor((self._listener,))

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, let tunnels finish for `seconds`, then close the rest."""
        self._is_draining = True
        self._listener.finish()
        for driver in list(self._drivers):
            driver.drain(is_stopping=True)
        try:
            async with asyncio.timeout(seconds):
                while self._handshakes:
                    await asyncio.wait(self._handshakes.tasks)
                await self._empty.wait()
        except TimeoutError:
            log.info("%d HBONE connections did not drain within %g s", len(self._drivers), seconds)
        await self.close()

    async def close(self) -> None:
        """Close all connections now."""
        self._listener.close()
        if self._making_room is not None:
            self._making_room.cancel()
        tasks = self._handshakes.tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for driver in list(self._drivers):
            driver.close()

    def _accepted(self, sock: socket.socket, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        if self._handshakes.are_many and not self._sources.take(address[0], loop.time()):
            self._on_refused("handshakes_per_source")
            sock.close()
            return
        if not self._capacity.take():
            self._on_refused(self._capacity.limit)
            sock.close()
            return
        task = loop.create_task(self._handshake(sock, address))
        self._handshakes.begin(task, address[0], loop.time())
        task.add_done_callback(self._handshake_done)
        if self._handshakes.are_too_many:
            self._on_refused("max_handshakes")
            self._listener.pause()
            if self._making_room is None:
                self._make_room()

    def _handshake_done(self, task: asyncio.Task[None]) -> None:
        self._handshakes.end(task)
        self._listener.resume()

    def _make_room(self) -> None:
        loop = asyncio.get_running_loop()
        for task in self._handshakes.stalled(loop.time()):
            self._on_refused("handshakes_per_source")
            task.cancel()
        self._making_room = loop.call_later(_ROOM_SECONDS, self._make_room) if self._handshakes.are_too_many else None

    async def _handshake(self, sock: socket.socket, address: tuple[str, int]) -> None:
        client = _Client(address, self._trust_domains)
        driver = Driver(
            self._settings,
            is_client=False,
            authenticate=client.authenticate,
            on_request=partial(self._requested, sock.getsockname()[:2]),
            on_closed=self._lost,
            on_refused=self._on_refused,
        )
        try:
            own = self._certificate()
            transport = await accept(lambda: driver, sock, own.server_context, self._handshake_seconds)
        except (OSError, NoCertificate) as error:  # TLS errors and timeouts are OSErrors too
            log.info("HBONE handshake with %s:%d failed: %s", *address, error or type(error).__name__)
            self._on_refused(_reason(error))
            sock.close()
            return
        finally:
            if not client.is_connected:
                self._capacity.give_back()
        if driver.refusal is not None:
            log.info("HBONE connection from %s:%d refused: %s", *address, driver.refusal)
            self._on_refused("untrusted_peer")
            if not isinstance(driver.refusal, InvalidPeer):
                raise driver.refusal
        elif not driver.is_closed:
            peer_expires = peer_expires_at(transport.get_extra_info("ssl_object"))
            driver.end_by(min(peer_expires, own.expires_at))
            self._drivers.add(driver)
            self._empty.clear()
            if self._is_draining:
                driver.drain(is_stopping=True)

    def _lost(self, driver: Driver) -> None:
        self._capacity.give_back()
        self._drivers.discard(driver)
        if not self._drivers:
            self._empty.set()

    def _requested(self, local: tuple[str, int], driver: Driver, stream_id: int, headers: Headers) -> None:
        try:
            request = ConnectRequest.from_headers(headers)
        except InvalidConnect as error:
            log.info("CONNECT from %s refused: %s", driver.peer, error)
            self._on_refused(hbone_reason(""))
            driver.refuse(stream_id, 400, [])
            return
        self._on_connect(IncomingTunnel(driver, stream_id, request, local))


class _Client:
    """A client during its handshake. Once it `is_connected`, the driver learns of its end."""

    __slots__ = ("_address", "_trust_domains", "is_connected")

    def __init__(self, address: tuple[str, int], trust_domains: frozenset[str]) -> None:
        self._address = address
        self._trust_domains = trust_domains
        self.is_connected = False

    def authenticate(self, transport: asyncio.Transport) -> Peer:
        self.is_connected = True
        return Peer(authenticate_client(transport.get_extra_info("ssl_object"), self._trust_domains), *self._address)


def _reason(error: Exception) -> str:
    match error:
        case OSError(errno=number) if number in OUT_OF_FILES:
            return "file_descriptors"
        case TimeoutError() | ConnectionAbortedError():  # event loops raise the latter when a handshake times out
            return "handshake_seconds"
        case _:
            return "tls_handshake"
