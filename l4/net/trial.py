"""Test whether an address accepts TCP connections."""

import asyncio

from l4.net import sockets
from l4.net.copy import reset_on_close
from l4.net.network import Network


async def accepts(
    address: tuple[str, int], seconds: float, local_ip: str | None = None, network: Network | None = None
) -> bool:
    """Connect, and close without sending anything. Returns whether the connection succeeded."""
    try:
        async with asyncio.timeout(seconds):
            sock = await sockets.connect(address, local_ip, network)
    except OSError:  # TimeoutError is one
        return False
    reset_on_close(sock)
    sock.close()
    return True
