"""Questions, answers and notes between a supervisor and a worker in another process.

Both run the same program as the same user, so messages are pickled. They go over a Unix socket that nobody else has.
"""

import asyncio
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

from l4.admin import NoAnswer

_SIZE = struct.Struct("!Q")
_MAX_WAITING = 64 << 20
"""Bytes that wait for the other end. Beyond them, notes are dropped."""

Answerer = Callable[[str, tuple[Any, ...]], Awaitable[object]]
Noted = Callable[[str, tuple[Any, ...]], None]


async def connect(
    sock: socket.socket,
    name: str,
    noted: Noted,
    answerer: Answerer | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> "Channel":
    """Return this end of the channel. `name` is the other end's, for messages. `on_end` is called when it has gone,
    before anybody who waits for an answer learns of it."""
    reader, writer = await asyncio.open_unix_connection(sock=sock)
    return Channel(reader, writer, name, noted, answerer, on_end)


class Channel:
    """`noted` takes the other end's notes, and `answerer` answers its questions. Created by `connect`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        name: str,
        noted: Noted,
        answerer: Answerer | None,
        on_end: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._name = name
        self._noted = noted
        self._answerer = answerer
        self._on_end = on_end
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Receive until the other end closes. Questions without an answer then raise NoAnswer."""
        try:
            while True:
                (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
                kind, name, rest = await _unpickled(await self._reader.readexactly(size))
                self._received(kind, name, rest)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._on_end()
            self.close()

    async def ask(self, question: str, *arguments: object) -> Any:
        """Return the other end's answer, however long it takes. Raises NoAnswer if it is gone, or what it raised."""
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            if self._writer.is_closing():
                raise self._gone()
            self._write(pickle.dumps(("ask", question, (number, arguments))))
            return await future
        finally:
            self._waiting.pop(number, None)

    def note(self, name: str, *arguments: object) -> bool:
        """Tell the other end something. False if it is gone or does not read."""
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > _MAX_WAITING:
            return False
        self._write(pickle.dumps(("note", name, arguments)))
        return True

    def close(self) -> None:
        self._writer.close()
        for task in self._answering:
            task.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._gone())

    async def closed(self, seconds: float) -> None:
        """Wait until everything is sent after `close`, for at most `seconds`."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                await self._writer.wait_closed()

    def _gone(self) -> NoAnswer:
        return NoAnswer(self._name, "has ended")

    def _write(self, message: bytes) -> None:
        self._writer.write(_SIZE.pack(len(message)) + message)

    def _received(self, kind: str, name: str, rest: tuple[Any, ...]) -> None:
        match kind:
            case "note":
                self._noted(name, rest)
            case "ask":
                task = asyncio.get_running_loop().create_task(self._answer(name, *rest))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case _:
                number, value = rest
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_exception(value) if kind == "error" else future.set_result(value)

    async def _answer(self, question: str, number: int, arguments: tuple[Any, ...]) -> None:
        assert self._answerer is not None
        try:
            kind, value = "answer", await self._answerer(question, arguments)
        except Exception as error:
            kind, value = "error", _portable(error)
        try:
            message = await asyncio.to_thread(pickle.dumps, (kind, question, (number, value)))
        except Exception as error:
            message = pickle.dumps(("error", question, (number, RuntimeError(f"{question}: {error}"))))
        if not self._writer.is_closing():
            self._write(message)


async def _unpickled(message: bytes) -> Any:
    """In a thread if it is long, because the event loop would stop meanwhile."""
    if len(message) < 1 << 16:
        return pickle.loads(message)  # noqa: S301 - only our own processes write here
    return await asyncio.to_thread(pickle.loads, message)


def _portable(error: Exception) -> Exception:
    """Return the error, or if it cannot be sent, one with its words."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
