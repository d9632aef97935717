"""Opens TCP connections outwards: the one place where a socket for traffic is made."""

import asyncio
import logging
import os
import socket

from l4.net import descriptors
from l4.net.descriptors import OUT_OF_FILES, OutOfDescriptors

log = logging.getLogger(__name__)

Address = tuple[str, int]


async def connect(address: Address, local_ip: str | None = None) -> socket.socket:
    """A connected socket that doesn't block, to a numeric address, from `local_ip` if given. Raises OSError, and
    OutOfDescriptors before anything is sent."""
    loop = asyncio.get_running_loop()
    try:
        sock = _open(address)
    except OutOfDescriptors as error:
        log.warning("no connection to %s:%d is made: %s", *address, error)
        raise
    try:
        sock.setblocking(False)
        if local_ip:
            sock.bind((local_ip, 0))
        await loop.sock_connect(sock, address)
    except OSError as error:
        sock.close()
        # Loops add the address to the text, and so do those who tell of it.
        raise OSError(error.errno, os.strerror(error.errno)) if error.errno else error from None
    except BaseException:
        sock.close()
        raise
    return sock


def _open(address: Address) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise (OutOfDescriptors() if error.errno in OUT_OF_FILES else error) from None
    if sock.fileno() >= descriptors.ceiling():
        sock.close()
        raise OutOfDescriptors
    return sock
