"""Detect whether another process listens at the same address, as during a hand-over to a new process.

The kernel distributes connections over all listeners (SO_REUSEPORT), so the old process must notice and stop listening.
"""

import os
import socket
from pathlib import Path

_LISTENS = "0A"
_ADDRESS, _STATE, _INODE = 1, 3, 9


def is_shared(sock: socket.socket) -> bool:
    """Whether another process listens at the socket's address. False where /proc is not available."""
    table = Path("/proc/net/tcp6" if sock.family == socket.AF_INET6 else "/proc/net/tcp")
    inode = str(os.fstat(sock.fileno()).st_ino)
    addresses: dict[str, str] = {}
    try:
        with table.open() as lines:
            next(lines, "")
            for line in lines:
                fields = line.split()
                if fields[_STATE] != _LISTENS:
                    break  # listening sockets come first, and thousands of others may follow
                addresses[fields[_INODE]] = fields[_ADDRESS]
    except OSError:
        return False
    own = addresses.pop(inode, None)
    return own is not None and own in addresses.values()
