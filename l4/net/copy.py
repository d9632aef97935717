"""Joins two byte streams: what comes in at one goes out at the other, both ways, with no task and no queue.

Works for anything that is an `asyncio.Transport`, so for TCP and for tunnels alike. The rules:

- Half-close is exact: the end of one direction (FIN or END_STREAM) is passed on after its last byte, and the other
  direction goes on. When both have ended, both sides are closed.
- Backpressure: while one side takes no more, nothing is read from the other.
- A side that breaks takes the other along: gently when it had said everything (what it said still arrives), else by a
  reset, so that nobody takes half an answer for a whole one.
- A destination that is gone before a byte has passed either way can be replaced (`on_unused_lost`).
- Sides may connect in any order. The one that waits holds the first chunk it got and reads no further.

There is no idle timeout: a peer that vanished is noticed by TCP keepalive and HTTP/2 PING.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

_LINGER_NOT = struct.pack("ii", 1, 0)


class SideLost(ConnectionError):
    """One side was gone before both directions had ended; the words are ztunnel's."""

    def __init__(self, side: str, cause: Exception | None) -> None:
        super().__init__(f"{side} disconnected before all data was written" + (f": {cause}" if cause else ""))
        self.side = side
        self.cause = cause


class Copy:
    """`near` is the protocol for the side that opened the connection, `far` for its destination.

    `on_done` is called once, when both sides are gone: with None when both directions ended in order, else with what
    ended them first. `on_unused_lost` is asked when the far side is gone, with the reason, and nobody has said anything
    yet: True if it connects another one to `far`, or aborts.
    """

    def __init__(self, on_done: Callable[[Exception | None], None]) -> None:
        self.near = Side("client", self)
        self.far = Side("destination", self)
        self.near.other, self.far.other = self.far, self.near
        self.is_over = False
        self.on_unused_lost: Callable[[Exception | None], bool] | None = None
        self._on_done: Callable[[Exception | None], None] | None = on_done
        self._error: Exception | None = None

    @property
    def received(self) -> int:
        """Bytes that came from the near side."""
        return self.near.byte_count

    @property
    def sent(self) -> int:
        """Bytes that came from the far side."""
        return self.far.byte_count

    def abort(self, error: Exception) -> None:
        """Reset both sides; one that connects later is reset then."""
        self.end(error)
        self.near.reset()
        self.far.reset()
        self.side_gone()

    def end(self, error: Exception | None) -> None:
        """Both directions are through, or `error` keeps them from it; only the first call counts."""
        if not self.is_over:
            self.is_over = True
            self._error = error

    def is_replaced(self, side: "Side", error: Exception | None) -> bool:
        """Whether another connection takes the place of one that is gone."""
        if side is not self.far or self.on_unused_lost is None or self.is_over:
            return False
        return not (self.near.has_spoken or self.far.has_spoken) and self.on_unused_lost(error)

    def side_gone(self) -> None:
        if self.is_over and not self.near.is_open and not self.far.is_open and self._on_done is not None:
            on_done, self._on_done = self._on_done, None
            on_done(self._error)


class Side(asyncio.Protocol):
    """`transport` is there while `is_open`."""

    transport: asyncio.Transport
    other: "Side"

    def __init__(self, name: str, copy: Copy) -> None:
        self.byte_count = 0
        self.is_open = False
        self.tap: Callable[[bytes], bool] | None = None  # looks at what comes, as long as it says so
        self._name = name
        self._copy = copy
        self._held = b""
        self._has_ended = False
        self._is_congested = False

    @property
    def has_spoken(self) -> bool:
        """A byte has come from it, or its end."""
        return self.byte_count > 0 or self._has_ended

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are none by inheritance
        self.is_open = True
        if self._copy.is_over:
            self.reset()
        else:
            self.other.release()

    def data_received(self, data: bytes) -> None:
        self.byte_count += len(data)
        if self.tap is not None and not self.tap(data):
            self.tap = None
        if self.other.is_open:
            self.other.transport.write(data)
        else:
            self._held += data
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if not self._has_ended:  # uvloop says it again whenever reading is resumed
            self._has_ended = True
            self._pass_end_on()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._copy.is_replaced(self, error):
            return
        if not (self._has_ended and self.other._has_ended):
            self._copy.end(SideLost(self._name, error))
        if self._has_ended:
            self.other.close()
        else:
            self.other.reset()
        self._copy.side_gone()

    def pause_writing(self) -> None:
        self._is_congested = True
        if self.other.is_open:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_congested = False
        if self.other.is_open:
            self.other.transport.resume_reading()

    # -- between the two -------------------------------------------------------------------------------------------

    def release(self) -> None:
        """The other side has connected: pass on what was held for it."""
        if not self.is_open:
            return
        if self._held:
            self.other.transport.write(self._held)
            self._held = b""
        if self._has_ended:
            self._pass_end_on()
        elif not self.other._is_congested:
            self.transport.resume_reading()

    def close(self) -> None:
        """In order, after what is still to be written."""
        if self.is_open:
            self.transport.close()

    def reset(self) -> None:
        if self.is_open:
            # A tunnel answers for the TLS connection that it shares with others; only plain TCP has its own socket.
            if self.transport.get_extra_info("ssl_object") is None:
                reset_on_close(self.transport.get_extra_info("socket"))
            self.transport.abort()

    def _pass_end_on(self) -> None:
        if self.other.is_open:
            self.other.transport.write_eof()
            if self.other._has_ended:
                self._copy.end(None)
                self.close()
                self.other.close()


def reset_on_close(sock: socket.socket | None) -> None:
    """Closing it will send RST instead of FIN."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
