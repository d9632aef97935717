"""Pool of HBONE connections, which tunnels share.

Two tunnels may share a connection if they have the same source identity, local address, target address and expected
identities. For each such key, at most one connection is being established; other tunnels wait for it, and if it fails,
all of them fail at once (ztunnel lets them try one after the other, ten seconds each). A connection is full at
`pool_streams_per_connection` tunnels or the peer's limit, whichever is less. It is closed after `pool_idle_seconds`
without tunnels. After GOAWAY it gets no new tunnels. A tunnel that a connection did not accept, or that was lost with
its connection before it was established, is tried on another connection.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from l4.config.settings import Settings
from l4.hbone import client
from l4.hbone.connect import ConnectRequest
from l4.hbone.driver import Driver
from l4.hbone.errors import ConnectFailed, ConnectTimedOut, NotTaken, Unanswered
from l4.hbone.settings import HboneSettings
from l4.hbone.tunnel import Tunnel
from l4.http2.errors import StreamUnavailable
from l4.identity.revocation import Revocations
from l4.identity.source import WorkloadCertificate
from l4.net.deadlines import Deadlines
from l4.net.network import Network
from policies.attributes import Identity
from policies.host_port import host_port
from policies.reach import SLOW_SECONDS

_MAX_NOT_TAKEN = 3
"""Number of connections that may reject a tunnel unprocessed before the pool gives up."""


_Key = tuple[Identity, frozenset[Identity], tuple[str, int], str | None]
"""Source, expected identities, target address and local address. A tuple, because equal keys are of the same objects,
which a tuple compares first."""


@dataclass(slots=True)
class _Entry:
    drivers: list[Driver] = field(default_factory=list)
    dialing: asyncio.Task[None] | None = None


class HbonePool:
    """Owns its connections and the tasks that establish them; `close` ends both.

    All connections are opened in `network`, or in the process's own namespace.
    """

    __slots__ = ("_deadlines", "_entries", "_idle", "_is_closed", "_network", "_on_refused", "_own", "_settings")

    def __init__(
        self,
        settings: Settings,
        on_refused: Callable[[str], None] = lambda reason: None,
        network: Network | None = None,
    ) -> None:
        self._settings = settings
        self._network = network
        self._own = settings.of(HboneSettings)
        self._on_refused = on_refused
        self._entries: dict[_Key, _Entry] = {}
        self._idle: dict[Driver, asyncio.TimerHandle] = {}
        self._is_closed = False
        self._deadlines = Deadlines(asyncio.get_running_loop())

    async def connect(
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        *,
        certificate: WorkloadCertificate,
        identities: frozenset[Identity],
        address: tuple[str, int],
        request: ConnectRequest,
        local_ip: str | None = None,
        on_slow: Callable[[], None] = lambda: None,
    ) -> Tunnel:
        """Open a tunnel to `request.authority` through the HBONE port at `address`.

        `on_slow` is called if connecting to that port takes long. Raises TunnelError, OutOfDescriptors.
        """
        key: _Key = (certificate.identity, identities, address, local_ip)
        not_taken = 0
        driver: Driver | None = None
        try:
            with self._deadlines.limit(self._own.connect_seconds):
                while True:
                    driver = self._check_out(key)
                    if driver is None:
                        driver = await self._dialed(key, certificate, on_slow)
                    is_reused = driver.has_been_used
                    try:
                        return await driver.open(request, protocol_factory)
                    except StreamUnavailable:
                        driver.is_draining = driver.is_draining or not driver.tunnel_count
                    except NotTaken:
                        driver.is_draining = True
                        not_taken += 1
                        if not_taken == _MAX_NOT_TAKEN:
                            raise
                    except ConnectFailed:
                        if not is_reused:  # a pooled connection may be dead; only a failure of a new one is reported
                            raise
        except TimeoutError as error:
            is_alive = driver is not None and driver.has_spoken
            if driver is not None and not is_alive:
                driver.is_draining = True  # let no other tunnel wait for this connection
            raise (Unanswered if is_alive else ConnectTimedOut)(
                f"no tunnel to {request.authority} through {host_port(*address)} within {self._own.connect_seconds:g} s"
            ) from error

    def cut_revoked(self, revocations: Revocations) -> None:
        """Close connections to servers whose certificates have been revoked."""
        for entry in list(self._entries.values()):
            for driver in list(entry.drivers):
                driver.cut_if_revoked(revocations)

    async def close(self) -> None:
        """Close all connections, and wait for connection attempts to stop."""
        self._is_closed = True
        dialing = [entry.dialing for entry in self._entries.values() if entry.dialing is not None]
        for task in dialing:
            task.cancel()
        await asyncio.gather(*dialing, return_exceptions=True)
        for entry in list(self._entries.values()):
            for driver in list(entry.drivers):
                driver.close()
        for timer in self._idle.values():
            timer.cancel()

    @property
    def drivers(self) -> list[Driver]:
        return [driver for entry in self._entries.values() for driver in entry.drivers]

    @property
    def connection_count(self) -> int:
        return len(self.drivers)

    def _check_out(self, key: _Key) -> Driver | None:
        """Return a connection with room, if there is one."""
        entry: _Entry | None = self._entries.get(key)
        driver = self._with_room(entry) if entry is not None else None
        if driver is not None and (timer := self._idle.pop(driver, None)):
            timer.cancel()
        return driver

    async def _dialed(self, key: _Key, certificate: WorkloadCertificate, on_slow: Callable[[], None]) -> Driver:
        """Return a connection with room, after establishing as many as it takes."""
        while True:
            if self._is_closed:
                raise ConnectFailed("the connection pool is closed")
            entry: _Entry | None = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry()
            if entry.dialing is None:
                entry.dialing = asyncio.get_running_loop().create_task(self._dial(key, entry, certificate))
            slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, on_slow)
            try:
                await asyncio.shield(entry.dialing)
            finally:
                slow.cancel()
            driver = self._check_out(key)
            if driver is not None:
                return driver

    def _with_room(self, entry: _Entry) -> Driver | None:
        for driver in entry.drivers:
            limit = min(self._own.pool_streams_per_connection, driver.engine.peer_max_concurrent_streams)
            if not driver.is_draining and driver.engine.own_stream_count < limit:
                return driver
        return None

    async def _dial(self, key: _Key, entry: _Entry, certificate: WorkloadCertificate) -> None:
        _, identities, address, local_ip = key
        try:
            driver = await client.connect(
                address,
                certificate=certificate,
                identities=identities,
                local_ip=local_ip,
                settings=self._settings,
                on_refused=self._on_refused,
                network=self._network,
            )
        finally:
            entry.dialing = None
            if not entry.drivers:
                self._entries.pop(key, None)
        self._entries[key] = entry
        entry.drivers.append(driver)
        driver.on_idle = self._went_idle
        driver.on_closed = partial(self._forget, key)
        self._went_idle(driver)
        if driver.is_closed:
            self._forget(key, driver)

    def _went_idle(self, driver: Driver) -> None:
        if driver.is_draining:
            driver.close()
        else:
            loop = asyncio.get_running_loop()
            self._idle[driver] = loop.call_later(self._own.pool_idle_seconds, lambda: driver.close())

    def _forget(self, key: _Key, driver: Driver) -> None:
        if timer := self._idle.pop(driver, None):
            timer.cancel()
        entry = self._entries.get(key)
        if entry is not None and driver in entry.drivers:
            entry.drivers.remove(driver)
            if not entry.drivers and entry.dialing is None:
                del self._entries[key]
