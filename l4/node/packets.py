"""Packets with file descriptors over a Unix socket that keeps packets apart (SOCK_SEQPACKET)."""

import array
import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

MAX_PACKET = 1024
_MAX_FDS = 4
"""More than any packet may carry, so that too many are noticed and closed."""


class BadPacket(Exception):
    """A packet is too long, or carries too many descriptors."""


class Packets:
    """One connection. Owns its socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def receive(self) -> tuple[bytes, list[int]]:
        """Return the next packet and its descriptors, which the caller then owns. Raises BadPacket, OSError.

        ConnectionResetError means that the peer has closed the connection.
        """
        room = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)
        while True:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC)
                break
            except BlockingIOError:
                await self._wait(self._loop.add_reader, self._loop.remove_reader)
        fds = _descriptors(ancillary)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(fds)
            raise BadPacket("the packet is too long, or carries too many descriptors")
        if not data:
            close_all(fds)
            raise ConnectionResetError("the peer has closed the connection")
        return data, fds

    async def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Raises BadPacket, OSError."""
        if len(data) > MAX_PACKET:
            raise BadPacket(f"the packet has {len(data)} bytes; at most {MAX_PACKET} are allowed")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while True:
            try:
                self._sock.sendmsg([data], rights)
                return
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer)

    def close(self) -> None:
        self._sock.close()

    async def _wait(self, add: Callable[..., object], remove: Callable[..., object]) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        add(self._sock, _resolve, future)
        try:
            await future
        finally:
            remove(self._sock)


def connect(path: Path) -> Packets:
    """Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return Packets(sock)


def listen(path: Path) -> socket.socket:
    """Return a listening socket at `path`, in place of one that a former process has left there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
