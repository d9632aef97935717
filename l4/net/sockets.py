"""Opens TCP connections outwards: the one place where a socket for traffic is made."""

import asyncio
import logging
import os
import socket

from l4.net import descriptors
from l4.net.descriptors import OutOfDescriptors

log = logging.getLogger(__name__)

Address = tuple[str, int]


async def connect(address: Address, local_ip: str | None = None) -> socket.socket:
    """A connected socket that doesn't block, to a numeric address, from `local_ip` if given. Raises OSError, and
    OutOfDescriptors before anything is sent."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sock.fileno() >= descriptors.ceiling():
            log.warning("no connection to %s:%d is made: %s", *address, OutOfDescriptors())
            raise OutOfDescriptors
        sock.setblocking(False)
        if local_ip:
            sock.bind((local_ip, 0))
        await loop.sock_connect(sock, address)
    except OutOfDescriptors:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        # Loops add the address to the text, and so do those who tell of it.
        raise OSError(error.errno, os.strerror(error.errno)) if error.errno else error from None
    except BaseException:
        sock.close()
        raise
    return sock
