"""Listeners of several processes at one address, as during a hand-over to a new process.

The kernel distributes connections over all listeners (SO_REUSEPORT), so the old process must notice and stop listening.
When it does, its listener's unfinished handshakes would be reset: they are not moved to another listener, except where
`net.ipv4.tcp_migrate_req` is set. So first it takes no part in new ones.
"""

import ctypes
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

HANDSHAKE_SECONDS = 0.5
"""Time for handshakes under way to end: several round trips, and less than the second after which a SYN is repeated."""

_LISTENS = "0A"
_ADDRESS, _STATE, _INODE = 1, 3, 9
_ATTACH_FILTER, _ATTACH_REUSEPORT_CBPF, _DETACH_REUSEPORT_BPF = 26, 51, 68

# Classic BPF (linux/filter.h): operation, jump if true, jump if false, operand.
_Instruction = tuple[int, int, int, int]
_LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06
_TAKE_SECOND: list[_Instruction] = [(_RETURN, 0, 0, 1)]
_FLAGS, _SYN, _ACK, _WHOLE = 13, 0x02, 0x10, 0xFFFFFFFF
_DROP_SYN: list[_Instruction] = [
    (_LOAD_BYTE, 0, 0, _FLAGS),
    (_AND, 0, 0, _SYN | _ACK),
    (_JUMP_IF_EQUAL, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, _WHOLE),
]


def leave(sock: socket.socket) -> None:
    """Let a listening socket take no new connections. Handshakes that have begun still end there.

    New connections go to the second listener at the address, because the one that leaves is the first, the oldest. If
    it is not, or is the only one, it ignores them: clients try again after a second. A listener that cannot share its
    address goes on as before, and so does one that is not the oldest where the kernel lets only root attach filters.
    """
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        with suppress(PermissionError):
            _attach(sock, _ATTACH_REUSEPORT_CBPF, _TAKE_SECOND)
            _attach(sock, _ATTACH_FILTER, _DROP_SYN)


def forget(sock: socket.socket) -> None:
    """Let the listeners at the address share new connections again. Call it before a listener that has left is closed.

    What `leave` says holds for the address, not for the socket: otherwise a later second listener would get all new
    connections from its first moment on.
    """
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _DETACH_REUSEPORT_BPF, 0)


def _attach(sock: socket.socket, option: int, program: list[_Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *it) for it in program))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program), ctypes.addressof(code)))


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
