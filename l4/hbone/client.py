"""Open HBONE connections: TCP, mutual TLS, a check of the peer's identity, and only then HTTP/2."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from socket import IPPROTO_TCP, TCP_NODELAY, SocketType, socket
from typing import Any

from l4.config.settings import Settings
from l4.hbone.driver import Driver
from l4.hbone.errors import ConnectFailed, ConnectTimedOut, HandshakeFailed
from l4.hbone.settings import HboneSettings
from l4.identity.certificate import InvalidPeer
from l4.identity.source import WorkloadCertificate
from l4.identity.tls import authenticate_server, peer_expires_at
from l4.net import sockets
from l4.net.descriptors import OutOfDescriptors
from l4.net.network import Network
from policies.attributes import Identity, Peer
from policies.host_port import host_port


def _authenticate(identities: frozenset[Identity], address: tuple[str, int], transport: asyncio.Transport) -> Peer:
    return Peer(authenticate_server(transport.get_extra_info("ssl_object"), identities), *address)


async def connect(
    address: tuple[str, int],
    *,
    certificate: WorkloadCertificate,
    identities: frozenset[Identity],
    local_ip: str | None,
    settings: Settings,
    on_refused: Callable[[str], None] = lambda reason: None,
    network: Network | None = None,
) -> Driver:
    """Connect to `address` with `certificate`, where the server's identity must be one of `identities`.

    Raises ConnectFailed, ConnectTimedOut, HandshakeFailed or OutOfDescriptors. In each case nothing was delivered.
    """
    authenticate = partial(_authenticate, identities, address)
    loop = asyncio.get_running_loop()
    place = host_port(*address)
    own = settings.of(HboneSettings)
    try:
        async with asyncio.timeout(own.connect_seconds):
            where = await _where(address, local_ip, network)
            transport, driver = await loop.create_connection(
                lambda: Driver(settings, is_client=True, authenticate=authenticate, on_refused=on_refused),
                **where,
                ssl=certificate.client_context,
                server_hostname="",
                ssl_handshake_timeout=own.handshake_seconds,
                ssl_shutdown_timeout=own.handshake_seconds,
            )
    except TimeoutError as error:
        raise ConnectTimedOut(
            f"connect to {place} timed out after {own.connect_seconds:g} s; a NetworkPolicy may block port {address[1]}"
        ) from error
    except ssl.SSLError as error:
        raise HandshakeFailed(f"TLS with {place} failed: {error.reason or error}") from error
    except OutOfDescriptors:
        raise
    except OSError as error:
        raise ConnectFailed(f"connect to {place} failed: {error.strerror or error}") from error
    if isinstance(driver.refusal, InvalidPeer):
        raise HandshakeFailed(f"{place} has the wrong identity: {driver.refusal}")
    if driver.refusal is not None:
        raise HandshakeFailed(f"TLS with {place} failed") from driver.refusal
    keep_alive(transport.get_extra_info("socket"), own)
    if not driver.is_closed:
        driver.end_by(min(peer_expires_at(transport.get_extra_info("ssl_object")), certificate.expires_at))
    return driver


async def _where(address: tuple[str, int], local_ip: str | None, network: Network | None) -> dict[str, Any]:
    """Return what tells the event loop where to connect: a socket that is connected in `network`, or an address."""
    if network is not None:
        return {"sock": await sockets.connect(address, local_ip, network)}
    sockets.ensure_room(address)
    host, port = address
    return {"host": host, "port": port, "local_addr": (local_ip, 0) if local_ip else None}


def keep_alive(sock: socket, settings: HboneSettings) -> None:
    """Set TCP_NODELAY, and keepalive probes as ztunnel does on its outgoing sockets."""
    own = SocketType(fileno=sock.fileno())  # a transport's socket makes such an object for each of its calls
    try:
        own.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        sockets.keep_alive(own, settings.tcp_keepalive_seconds, settings.tcp_keepalive_probes)
    finally:
        own.detach()
