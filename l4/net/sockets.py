"""Open outgoing connections, in a pod's network namespace if asked to, if traffic may use another file descriptor."""

import asyncio
import logging
import os
import socket
from os import close, eventfd

from l4.net import descriptors
from l4.net.descriptors import OUT_OF_FILES, OutOfDescriptors
from l4.net.network import Network, set_transparent

log = logging.getLogger(__name__)

Address = tuple[str, int]


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
    if lowest >= descriptors.ceiling():
        log.warning("no connection to %s:%d: %s", *address, OutOfDescriptors())
        raise OutOfDescriptors


async def connect(
    address: Address, local_ip: str | None = None, network: Network | None = None, *, is_foreign: bool = False
) -> socket.socket:
    """Return a connected, non-blocking socket to a numeric address, from `local_ip` if given.

    Without a `network` it is in the process's own namespace. `is_foreign`: `local_ip` need not be an address of the
    namespace. Raises OSError, or OutOfDescriptors before anything is sent.
    """
    loop = asyncio.get_running_loop()
    ensure_room(address)
    sock = open_socket(address[0], network)
    try:
        sock.setblocking(False)
        if local_ip:
            if is_foreign:
                set_transparent(sock)
            sock.bind((local_ip, 0))
        await loop.sock_connect(sock, address)
    except OSError as error:
        sock.close()
        # Event loops add the address to the text, and so do callers that report it.
        raise OSError(error.errno, os.strerror(error.errno)) if error.errno else error from None
    except BaseException:
        sock.close()
        raise
    return sock


def open_socket(ip: str, network: Network | None = None) -> socket.socket:
    """Return a TCP socket of the family of `ip`, in `network` or the process's own namespace. Raises OSError."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM) if network is None else network.socket(family)
