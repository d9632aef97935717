"""Sockets for DNS lookups that may be cancelled at any time.

UDP sockets are created here in one step. dnspython's own implementation awaits an asyncio transport: a lookup that is
cancelled during that leaks the transport, and a uvloop event loop with a leaked transport never closes. TCP, for
truncated answers, uses dnspython's implementation.
"""

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any

import dns.asyncbackend
import dns.exception
from dns._asyncbackend import Backend, DatagramSocket, Socket  # dns.asyncbackend has them, but doesn't export them

_Address = tuple[Any, ...]


class LookupSockets(Backend):
    """dnspython's asyncio backend, except for UDP."""

    def __init__(self) -> None:
        self._usual: Any = dns.asyncbackend.get_backend("asyncio")

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: _Address | None = None,
        destination: _Address | None = None,
        timeout: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> Socket:
        if socktype == socket.SOCK_DGRAM:
            return _UdpSocket(af, source, destination)
        made: Socket = await self._usual.make_socket(
            af, socktype, proto, source, destination, timeout, ssl_context, server_hostname
        )
        return made

    def name(self) -> str:
        return "asyncio"

    async def sleep(self, interval: float) -> None:
        await asyncio.sleep(interval)

    def get_transport_class(self) -> Any:
        return self._usual.get_transport_class()

    async def wait_for(self, awaitable: Awaitable[Any], timeout: float | None) -> Any:
        return await self._usual.wait_for(awaitable, timeout)


class _UdpSocket(DatagramSocket):
    def __init__(self, family: int, source: _Address | None, destination: _Address | None) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            if source is not None:
                self._socket.bind(source)
            if destination is not None:
                self._socket.connect(destination)
        except OSError:
            self._socket.close()
            raise

    async def sendto(self, what: bytes, destination: _Address, timeout: float | None) -> int:
        try:
            return self._socket.sendto(what, destination)
        except BlockingIOError:
            return len(what)  # treated as lost on the way

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, _Address]:
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        return self._socket.recvfrom(size)
                    except BlockingIOError:
                        await self._readable()
        except TimeoutError:
            raise dns.exception.Timeout(timeout=timeout) from None  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        self._socket.close()

    async def getpeername(self) -> _Address:
        peer: _Address = self._socket.getpeername()
        return peer

    async def getsockname(self) -> _Address:
        own: _Address = self._socket.getsockname()
        return own

    async def _readable(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._socket)
