"""Whether another process listens at the same address, as during a hand-over from an old process to a new one.

The kernel spreads connections over all who listen (SO_REUSEPORT), so that each of both gets some: who is about to end
has to notice, and to stop listening.
"""

import os
import socket
from pathlib import Path

_LISTENS = "0A"
_ADDRESS, _STATE, _INODE = 1, 3, 9


def is_shared(sock: socket.socket) -> bool:
    """False where the kernel doesn't tell (/proc)."""
    table = Path("/proc/net/tcp6" if sock.family == socket.AF_INET6 else "/proc/net/tcp")
    inode = str(os.fstat(sock.fileno()).st_ino)
    addresses: dict[str, str] = {}
    try:
        with table.open() as lines:
            next(lines, "")
            for line in lines:
                fields = line.split()
                if fields[_STATE] != _LISTENS:
                    break  # those that listen come first, and there may be thousands of others
                addresses[fields[_INODE]] = fields[_ADDRESS]
    except OSError:
        return False
    own = addresses.pop(inode, None)
    return own is not None and own in addresses.values()
