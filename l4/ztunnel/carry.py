"""Common steps of all connections: connect one side, then the other, and record how the connection ended."""

import asyncio
import socket
from collections.abc import Callable, Coroutine

from l4.hbone.errors import ConnectFailed, ConnectTimedOut, TunnelError
from l4.identity.source import NoCertificate
from l4.net.copy import Copy, reset_on_close
from l4.net.descriptors import OutOfDescriptors
from l4.net.network import Network
from l4.net.sockets import connect as connect_socket
from l4.net.sockets import keep_alive
from l4.ztunnel.node import Node
from l4.ztunnel.traffic import Flow, NotDrained
from policies.access import Access
from policies.host_port import host_port


async def carry(
    node: Node,
    flow: Flow,
    sock: socket.socket,
    connect: Callable[[Copy], Coroutine[None, None, None]],
    access: Access | None = None,
) -> None:
    """Let `connect` connect the far side, then connect the accepted socket.

    The socket's bytes stay in the kernel until then.
    """
    copy = node.traffic.opened(flow, access)
    try:
        await connect(copy)
        await node.loop.connect_accepted_socket(lambda: copy.near, sock)
    except (TunnelError, NoCertificate, OSError) as error:
        copy.abort(error)
        reset(sock)
    except asyncio.CancelledError:
        copy.abort(NotDrained())
        reset(sock)
        raise


def drop(
    node: Node,
    sock: socket.socket,
    source: tuple[str, int],
    to: tuple[str, int],
    reason: str,
    direction: str = "outbound",
) -> None:
    """Reset a connection whose source or destination is unknown."""
    node.traffic.failed(direction, host_port(*source), host_port(*to), reason)
    reset(sock)


async def connect_plain(
    address: tuple[str, int],
    protocol: asyncio.Protocol,
    node: Node,
    network: Network | None = None,
    source_ip: str | None = None,
) -> None:
    """Open a plain TCP connection in `network`. With `source_ip` it comes from the client's address.

    Raises ConnectFailed, OutOfDescriptors.
    """
    settings = node.hbone
    try:
        with node.deadlines.limit(settings.connect_seconds):
            if network is None:
                sock = await connect_socket(address)
            else:
                sock = await connect_socket(address, source_ip, network, is_foreign=source_ip is not None)
            keep_alive(sock, settings.tcp_keepalive_seconds, settings.tcp_keepalive_probes)
            await node.loop.create_connection(lambda: protocol, sock=sock)
    except TimeoutError as error:
        place = host_port(*address)
        raise ConnectTimedOut(f"connect to {place} timed out after {settings.connect_seconds:g} s") from error
    except OutOfDescriptors:
        raise
    except OSError as error:
        place = host_port(*address)
        raise ConnectFailed(f"connection failed: {place}: {error.strerror or error}") from error


def reset(sock: socket.socket) -> None:
    """Close the socket with a reset, so that the application does not take it for an orderly end."""
    reset_on_close(sock)
    sock.close()
