"""Open outgoing connections, in a pod's network namespace if asked to, if traffic may use another file descriptor."""

import asyncio
import logging
import os
import socket
from errno import EALREADY, EINPROGRESS
from os import close, eventfd
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, SocketType
from typing import Any

from l4.net import descriptors
from l4.net.descriptors import OUT_OF_FILES, OutOfDescriptors, ceiling
from l4.net.network import Network, set_transparent

log = logging.getLogger(__name__)

Address = tuple[str, int]

_V4, _V6 = int(socket.AF_INET), int(socket.AF_INET6)
_STREAM = int(socket.SOCK_STREAM)
_STREAM_AT_ONCE = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
_IN_PROGRESS = frozenset({EINPROGRESS, EALREADY})


class Socket(socket.socket):
    """A TCP socket of which `family` and `type` are plain numbers, and which accepts others of its class.

    Event loops ask for them several times, and `socket.socket` looks up a member of an enum each time.
    """

    family = SocketType.family  # type: ignore[assignment]
    type = SocketType.type  # type: ignore[assignment]

    def accept(self) -> tuple["Socket", Any]:
        """Return the next connection, which is non-blocking, and its peer's address. Raises OSError."""
        fd, address = self._accept()  # type: ignore[attr-defined]
        return taken(int(self.family), fd), address


def ensure_room(address: Address) -> None:
    """Raise OutOfDescriptors if no connection to `address` may be opened.

    The result is valid until the caller awaits: event loops create the socket for a numeric address immediately. The
    check costs a few microseconds.
    """
    try:
        lowest = eventfd(0)
    except OSError as error:
        if error.errno not in OUT_OF_FILES:
            raise
        lowest = descriptors.limit()
    else:
        close(lowest)
    if lowest >= ceiling():
        raise _no_room(address)


def _no_room(address: Address) -> OutOfDescriptors:
    error = OutOfDescriptors()
    log.warning("no connection to %s:%d: %s", *address, error)
    return error


async def connect(
    address: Address, local_ip: str | None = None, network: Network | None = None, *, is_foreign: bool = False
) -> socket.socket:
    """Return a connected, non-blocking socket to a numeric address, from `local_ip` if given.

    Without a `network` it is in the process's own namespace. `is_foreign`: `local_ip` need not be an address of the
    namespace. Raises OSError, or OutOfDescriptors before anything is sent.
    """
    sock = _open(address, network)
    try:
        if local_ip:
            if is_foreign:
                set_transparent(sock)
            sock.bind((local_ip, 0))
        if not _connects_at_once(sock, address):
            await asyncio.get_running_loop().sock_connect(sock, address)
    except OSError as error:
        sock.close()
        # Event loops add the address to the text, and so do callers that report it.
        raise OSError(error.errno, os.strerror(error.errno)) if error.errno else error from None
    except BaseException:
        sock.close()
        raise
    return sock


def _open(address: Address, network: Network | None) -> socket.socket:
    """Return a socket for a connection to `address`. Raises OSError, or OutOfDescriptors."""
    try:
        sock = open_socket(address[0], network)
    except OSError as error:
        if error.errno not in OUT_OF_FILES:
            raise
        raise _no_room(address) from None
    if sock.fileno() >= ceiling():
        sock.close()
        raise _no_room(address)
    return sock


def _connects_at_once(sock: socket.socket, address: Address) -> bool:
    """Begin to connect. Returns whether the connection is established, as it often is on the same machine, where the
    second call finds the answer that the first one did not wait for. Raises OSError."""
    for _ in range(2):
        error = sock.connect_ex(address)
        if not error:
            return True
        if error not in _IN_PROGRESS:
            raise OSError(error, os.strerror(error))
    return False


def open_socket(ip: str, network: Network | None = None) -> Socket:
    """Return a non-blocking TCP socket of the family of `ip`, in `network` or the process's own namespace.

    Raises OSError.
    """
    family = _V6 if ":" in ip else _V4
    if network is None:
        return Socket(family, _STREAM_AT_ONCE)
    return taken(family, network.socket(family).detach())


def taken(family: int, fd: int) -> Socket:
    """Return a non-blocking TCP socket that owns the descriptor from now on."""
    sock = Socket(family, _STREAM, 0, fd)
    sock.setblocking(False)
    return sock


def keep_alive(sock: SocketType, seconds: int, probes: int) -> None:
    """Let the kernel probe the peer after `seconds` of silence, and give up after `probes` without an answer.

    What is accepted by a listening socket inherits this.
    """
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, seconds)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, seconds)
    sock.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, probes)
