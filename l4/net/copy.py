"""Copy bytes between two streams in both directions, without tasks and queues.

Works for any `asyncio.Transport`, so for TCP connections and tunnels alike. Rules:

- Half-close is exact: the end of one direction (FIN or END_STREAM) is passed on after its last byte, and the other
  direction continues. When both have ended, both sides are closed.
- Backpressure: while one side cannot write, the other side is not read.
- If one side breaks, the other is closed: normally if the broken side had sent its end (its data still arrives), else
  by a reset, so that no partial response is taken for a complete one.
- A destination that is lost before a byte has passed in either direction can be replaced (`on_unused_lost`).
- Sides may connect in any order. The first one holds its first chunk and reads no further.

There is no idle timeout: TCP keepalive and HTTP/2 PING detect vanished peers.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

_LINGER_NOT = struct.pack("ii", 1, 0)


class SideLost(ConnectionError):
    """One side was lost before both directions had ended. The text is ztunnel's."""

    def __init__(self, side: str, cause: Exception | None) -> None:
        super().__init__(f"{side} disconnected before all data was written" + (f": {cause}" if cause else ""))
        self.side = side
        self.cause = cause


class Copy:
    """`near` is the protocol of the side that opened the connection, `far` that of its destination.

    `on_done` is called once, when both sides have ended: with None if both directions ended normally, else with the
    first error. `on_unused_lost` is called with the reason if the far side is lost before any byte has passed. It
    returns True if it connects another destination to `far`, or aborts.
    """

    __slots__ = ("_error", "_on_done", "far", "is_over", "near", "on_unused_lost")

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
        """Bytes received from the near side."""
        return self.near.byte_count

    @property
    def sent(self) -> int:
        """Bytes received from the far side."""
        return self.far.byte_count

    def abort(self, error: Exception) -> None:
        """Reset both sides. A side that connects later is reset then."""
        self.end(error)
        self.near.reset()
        self.far.reset()
        self.side_gone()

    def end(self, error: Exception | None) -> None:
        """Record that both directions have ended, or the error that prevents it. Only the first call counts."""
        if not self.is_over:
            self.is_over = True
            self._error = error

    def is_replaced(self, side: "Side", error: Exception | None) -> bool:
        """Whether another connection replaces the lost one."""
        if side is not self.far or self.on_unused_lost is None or self.is_over:
            return False
        return not (self.near.has_spoken or self.far.has_spoken) and self.on_unused_lost(error)

    def side_gone(self) -> None:
        if self.is_over and not self.near.is_open and not self.far.is_open and self._on_done is not None:
            on_done = self._on_done
            self._on_done = self.on_unused_lost = None  # what they refer to is free at once, also metrics' series
            on_done(self._error)
            self.near.let_go()
            self.far.let_go()


class Side(asyncio.Protocol):
    """One side of a copy. `transport` exists while `is_open`."""

    __slots__ = (
        "_copy",
        "_has_ended",
        "_held",
        "_is_congested",
        "_name",
        "byte_count",
        "is_open",
        "other",
        "tap",
        "transport",
        "was_open",
    )

    transport: asyncio.Transport
    other: "Side"

    def __init__(self, name: str, copy: Copy) -> None:
        self.byte_count = 0
        self.is_open = False
        self.was_open = False
        self.tap: Callable[[bytes], bool] | None = None  # sees received data for as long as it returns True
        self._name = name
        self._copy = copy
        self._held = b""
        self._has_ended = False
        self._is_congested = False

    @property
    def has_spoken(self) -> bool:
        """Whether the side has sent a byte or its end."""
        return self.byte_count > 0 or self._has_ended

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        self.is_open = self.was_open = True
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
        if not self._has_ended:  # uvloop repeats it whenever reading is resumed
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
        """Pass on the data held for the other side, which has connected."""
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
        """Close after writing what is buffered."""
        if self.is_open:
            self.transport.close()

    def reset(self) -> None:
        if self.is_open:
            # A tunnel's socket belongs to a TLS connection shared with others; only plain TCP has its own.
            if self.transport.get_extra_info("ssl_object") is None:
                reset_on_close(self.transport.get_extra_info("socket"))
            self.transport.abort()

    def let_go(self) -> None:
        """Break reference cycles that only the garbage collector could free. Unless it connects later, nobody calls a
        side that is lost."""
        if self.was_open:
            del self._copy, self.other, self.transport

    def _pass_end_on(self) -> None:
        if self.other.is_open:
            self.other.transport.write_eof()
            if self.other._has_ended:
                self._copy.end(None)
                self.close()
                self.other.close()


def reset_on_close(sock: socket.socket | None) -> None:
    """Make a later close send RST instead of FIN."""
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
