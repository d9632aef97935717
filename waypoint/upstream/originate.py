"""Connections to endpoints: an HBONE tunnel to workloads that support it, plain TCP to others.

Where a ztunnel redirects the waypoint's own pod, that makes the tunnels: all connections are plain TCP here.
"""

import asyncio
import socket
from collections.abc import Callable

from l4.config.settings import Settings
from l4.hbone.client import keep_alive
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.errors import TunnelError, TunnelRefused
from l4.hbone.pool import HbonePool
from l4.hbone.settings import HboneSettings
from l4.identity.source import NoCertificate, OwnCertificate
from l4.net import sockets
from l4.net.descriptors import OutOfDescriptors
from l4.net.trial import accepts
from policies.attributes import Identity
from policies.balancing.endpoint import Endpoint
from policies.connection_pool import DEFAULT_POOL, ConnectionPool, Keepalive
from policies.upstream_tls import UpstreamTls
from waypoint.config.snapshot import Snapshot
from waypoint.errors import UpstreamConnectFailed, UpstreamOverflow
from waypoint.upstream.tls import Checking, InvalidTls, TlsContexts

HBONE_PORT = 15008


class Originator:
    """Opens connections with the waypoint's own identity, from `local_ip` if given.

    The ztunnel at the other end identifies the waypoint's pod by that address.
    """

    def __init__(
        self,
        pool: HbonePool,
        certificate: OwnCertificate,
        settings: Settings,
        local_ip: str | None = None,
    ) -> None:
        self._pool = pool
        self._certificate = certificate
        self.settings = settings
        self._hbone = settings.of(HboneSettings)
        self._local_ip = local_ip
        self._contexts = TlsContexts()
        self._is_carried = False

    def reconcile(self, snapshot: Snapshot) -> None:
        """Follow who makes the tunnels, and drop TLS contexts that no current configuration uses."""
        self._is_carried = snapshot.is_carried
        configs = [it for it in snapshot.clusters.values() if it.tls is not None]
        self._contexts.keep(
            {it.tls for it in configs if it.tls is not None}
            | {it.tls for config in configs for it in config.endpoints if it.tls is not None}
        )

    async def follow_tls_files(self, concern: Callable[[str], None]) -> None:
        """See `TlsContexts.watch`."""
        await self._contexts.watch(concern)

    @property
    def identity(self) -> Identity:
        """The identity with which connections are opened."""
        return self._certificate.identity

    async def connect(
        self, endpoint: Endpoint, factory: Callable[[], asyncio.Protocol], pool: ConnectionPool = DEFAULT_POOL
    ) -> None:
        """Connect `factory`'s protocol to the endpoint's application.

        Raises UpstreamConnectFailed, in which case the application has not received a byte (a tunnel counts as
        connected when CONNECT was answered with 200). Raises UpstreamOverflow if we are out of file descriptors.
        """
        seconds = pool.connect_seconds
        try:
            async with asyncio.timeout(seconds):
                if endpoint.tls is not None:
                    self._keep_alive(await self._connect_tls(endpoint, endpoint.tls, factory), pool.keepalive)
                elif not self._is_tunnelled(endpoint):
                    self._keep_alive(await self._connect_plain(endpoint, factory), pool.keepalive)
                else:
                    assert endpoint.identity is not None
                    await self._pool.connect(
                        factory,
                        certificate=self._certificate.get(),
                        identities=frozenset({endpoint.identity}),
                        address=(endpoint.ip, HBONE_PORT),
                        local_ip=self._local_ip,
                        request=ConnectRequest(Authority(endpoint.ip, endpoint.port)),
                    )
        except TimeoutError:
            raise UpstreamConnectFailed(f"{endpoint} did not answer within {seconds:g} s") from None
        except TunnelRefused as error:
            raise UpstreamConnectFailed(str(error), is_ours=error.status < 500) from error
        except TunnelError as error:
            raise UpstreamConnectFailed(str(error)) from error
        except (NoCertificate, InvalidTls) as error:
            raise UpstreamConnectFailed(str(error), is_ours=True) from error
        except OutOfDescriptors as error:
            raise UpstreamOverflow(str(error)) from error
        except OSError as error:
            raise UpstreamConnectFailed(f"connect to {endpoint} failed: {error.strerror or error}") from error

    async def tries(self, endpoint: Endpoint, pool: ConnectionPool = DEFAULT_POOL) -> bool:
        """Whether the endpoint accepts connections now."""
        is_tunnelled = self._is_tunnelled(endpoint) and endpoint.tls is None
        return await accepts((endpoint.ip, HBONE_PORT if is_tunnelled else endpoint.port), pool.connect_seconds)

    def _is_tunnelled(self, endpoint: Endpoint) -> bool:
        return endpoint.identity is not None and not self._is_carried

    async def _connect_tls(
        self, endpoint: Endpoint, tls: UpstreamTls, factory: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        if tls.problem:
            raise InvalidTls(tls.problem)
        if self._is_tunnelled(endpoint):
            raise InvalidTls(
                f"TLS inside the tunnel to {endpoint} is not supported; disable tls in the DestinationRule"
            )
        loop = asyncio.get_running_loop()
        context = await self._contexts.get(tls)
        checking = Checking(tls, factory)
        sockets.ensure_room((endpoint.ip, endpoint.port))
        await loop.create_connection(
            lambda: checking, endpoint.ip, endpoint.port, ssl=context, server_hostname=tls.asked_name
        )
        return await checking.checked

    async def _connect_plain(self, endpoint: Endpoint, factory: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        sockets.ensure_room((endpoint.ip, endpoint.port))
        transport, _ = await loop.create_connection(factory, endpoint.ip, endpoint.port)
        return transport

    def _keep_alive(self, transport: asyncio.Transport, wanted: Keepalive | None) -> None:
        sock: socket.socket = transport.get_extra_info("socket")
        keep_alive(sock, self._hbone)
        if wanted is not None:
            for option, value in (
                (socket.TCP_KEEPCNT, wanted.probes),
                (socket.TCP_KEEPIDLE, wanted.idle_seconds),
                (socket.TCP_KEEPINTVL, wanted.interval_seconds),
            ):
                if value is not None:
                    sock.setsockopt(socket.IPPROTO_TCP, option, max(round(value), 1))
