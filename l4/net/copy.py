"""Joins two byte streams: what one receives the other sends, both ways at once, until both directions have ended.

Works on asyncio transports, so on TCP and on HBONE tunnels alike. Half-close is kept: the end of one direction is the
end of that direction only. When one stream breaks, the other is aborted, so that nobody takes a broken stream for a
finished one. A side that is slow to send stops the other from being read. No task, no queue.
"""

import asyncio
from collections.abc import Callable
from typing import cast


class Copy:
    """Make one, then hand `near` and `far` to the two connections as their protocols, in any order.

    `received` counts bytes from near to far, `sent` those from far to near. `on_done(error)` is called once, when
    both connections are gone; `error` is None after an orderly end.
    """

    def __init__(self, on_done: Callable[[Exception | None], None]) -> None:
        self.near = _End(self)
        self.far = _End(self)
        self.near.other, self.far.other = self.far, self.near
        self._on_done = on_done
        self._error: Exception | None = None
        self._is_done = False

    @property
    def received(self) -> int:
        return self.near.count

    @property
    def sent(self) -> int:
        return self.far.count

    def abort(self, error: Exception) -> None:
        """Cut both connections; `error` is the reason that `on_done` gets."""
        self._error = self._error or error
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.abort()

    def lost(self, end: "_End", error: Exception | None) -> None:
        other = end.other
        if not (end.has_ended and other.has_ended):
            self._error = self._error or error or ConnectionResetError("one side closed before both had finished")
            if other.transport is not None and not other.is_lost:
                other.transport.abort()
        if not self._is_done and (other.is_lost or other.transport is None):
            self._is_done = True
            self._on_done(self._error)


class _End(asyncio.Protocol):
    other: "_End"

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self.transport: asyncio.Transport | None = None
        self.count = 0
        self.has_ended = False
        self.is_lost = False
        self._early: list[bytes] = []  # came before the other side stood; reading is paused, so at most one read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        other = self.other
        if other.transport is None:
            self.transport.pause_reading()
            return
        for data in other._early:
            self.transport.write(data)
        other._early.clear()
        if other.has_ended:
            self.transport.write_eof()
        else:
            other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        sink = self.other.transport
        if sink is None:
            self._early.append(data)
        else:
            sink.write(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        other = self.other
        if other.transport is not None:
            other.transport.write_eof()
            if other.has_ended and self.transport is not None:
                self.transport.close()
                other.transport.close()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._copy.lost(self, error)

    def pause_writing(self) -> None:
        if self.other.transport is not None and not self.other.is_lost:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None and not self.other.is_lost:
            self.other.transport.resume_reading()
