"""A way to a server of this machine that a test can spoil: bytes pass, are refused, vanish, or meet nonsense.

It runs in a thread of its own, so that a test can wait for other things.
"""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto
from itertools import cycle
from typing import Any, TypeVar

from l4.net.network import Network

T = TypeVar("T")

_SECONDS = 30.0


class Passing(Enum):
    """`LOST` is a partition of the network: connections stay open, and nothing comes through, in either direction.
    `RESET` ends them all, and each new one at once. `NONSENSE` answers new ones by what is no HTTP/2."""

    THROUGH = auto()
    LOST = auto()
    RESET = auto()
    NONSENSE = auto()


NONSENSE = (
    b"",
    bytes(64),
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x40\x01\x04\x00\x00\x00\x01\x88",  # a frame without its end
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",  # 16 MiB are said to come
    b"\x00\x00\x03\x04\x00\x00\x00\x00\x00abc",  # SETTINGS of a length that there is not
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x04\x01\x04\x00\x00\x00\x01\xff\xff\xff\xff",  # bad HPACK
)
"""What a server may send in place of HTTP/2 frames; then the connection ends."""


@contextmanager
def backstage() -> Iterator["Backstage"]:
    it = Backstage()
    try:
        yield it
    finally:
        it.end()


class Backstage:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="backstage")
        self._thread.start()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(_SECONDS)

    def end(self) -> None:
        async def cancel() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for it in rest:
                it.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.run(cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_SECONDS)
        self.loop.close()


class Gate:
    """Leads to `target`, which is a port of 127.0.0.1. `certificate` is what nonsense is said with."""

    def __init__(self, stage: Backstage, target: int, certificate: ssl.SSLContext) -> None:
        self._stage = stage
        self._target = target
        self._passing = Passing.THROUGH
        self._is_open = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self.accepted = 0
        self._nonsense_port = 0
        stage.run(self._start(certificate))

    def listen(self, network: Network | None = None) -> int:
        """Listen at 127.0.0.1, which is another one in each network namespace. Returns the port."""
        return self._stage.run(self._listen(network))

    def lead_to(self, target: int) -> None:
        """For new connections; the others end."""
        self._target = target
        self._stage.run(self._end_all())

    def set(self, passing: Passing) -> None:
        """What was lost stays lost: connections that a partition met end with it."""
        self._stage.run(self._set(passing))

    def close(self) -> None:
        async def close() -> None:
            for it in self._servers:
                it.close()
            await self._end_all()

        self._stage.run(close())

    async def _start(self, certificate: ssl.SSLContext) -> None:
        self._is_open.set()
        answers = cycle(NONSENSE)

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(next(answers))
            with suppress(OSError):
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=certificate)
        self._nonsense_port = server.sockets[0].getsockname()[1]
        self._servers.append(server)

    async def _listen(self, network: Network | None) -> int:
        sock = socket.socket() if network is None else network.socket(socket.AF_INET)
        sock.bind(("127.0.0.1", 0))
        self._servers.append(await asyncio.start_server(self._accepted, sock=sock))
        return int(sock.getsockname()[1])

    async def _set(self, passing: Passing) -> None:
        was_lost, self._passing = self._passing is Passing.LOST, passing
        if passing is Passing.LOST:
            self._is_open.clear()
            return
        self._is_open.set()
        if was_lost or passing is not Passing.THROUGH:
            await self._end_all()

    async def _end_all(self) -> None:
        for it in self._connections:
            it.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = self._stage.loop.create_task(self._pass(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        others = [writer]
        try:
            if self._passing is Passing.RESET:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            await self._is_open.wait()
            port = self._nonsense_port if self._passing is Passing.NONSENSE else self._target
            its_reader, its_writer = await asyncio.open_connection("127.0.0.1", port)
            others.append(its_writer)
            await _first(self._copy(reader, its_writer), self._copy(its_reader, writer))
        except OSError:  # nobody listens there
            pass
        finally:
            for it in others:
                it.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(1 << 16):
                await self._is_open.wait()
                writer.write(part)
                await writer.drain()


async def _first(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one way has ended."""
    tasks: Sequence[asyncio.Task[None]] = [asyncio.ensure_future(it) for it in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for it in tasks:
            it.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
