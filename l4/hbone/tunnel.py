"""A CONNECT stream as a byte stream: an `asyncio.Transport` over one stream of an HTTP/2 connection.

Everything that works over TCP works over a tunnel: the copier, the HTTP/1.1 codec, another TLS. The mapping is HBONE's:
`write_eof` sends END_STREAM, END_STREAM from the peer is `eof_received`, `abort` resets with CANCEL, and a reset from
the peer is `connection_lost` with a TunnelReset.

Buffers are bounded. Written bytes that no window accepts are kept here; above `high_water` the protocol is told to
pause. While reading is paused, received bytes are kept here, and are returned to the peer's window only when they are
read. Small writes of one loop turn are sent as one DATA frame, because peers penalize tiny frames; large writes are not
copied.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

from l4.hbone.errors import TunnelReset
from l4.http2.connection import Connection
from l4.http2.errors import ErrorCode
from l4.http2.events import DataReceived
from policies.attributes import Peer

_LARGE_CHUNK = 4096
_UNSET = asyncio.Protocol()
"""Placeholder until the tunnel has a protocol. It ignores all calls."""


@runtime_checkable
class Announced(Protocol):
    """A tunnel's protocol that wants to know in advance that the underlying connection will end."""

    def announce_close(self) -> None: ...


class Carrier(Protocol):
    """The connection that carries the tunnel's stream."""

    loop: asyncio.AbstractEventLoop
    engine: Connection
    transport: asyncio.Transport
    peer: Peer

    def mark(self, tunnel: "Tunnel") -> None:
        """Note that the tunnel has data to send at the end of this loop turn."""

    def reset(self, tunnel: "Tunnel", code: ErrorCode) -> None: ...

    def block(self, tunnel: "Tunnel", has_progressed: bool) -> None:
        """Note that the windows did not allow sending all of the tunnel's data."""

    def forget(self, tunnel: "Tunnel") -> None:
        """Note that the tunnel has ended."""


class Tunnel(asyncio.Transport):
    """A tunnel, created by a Driver. It buffers received data until a protocol is set."""

    __slots__ = (
        "_carrier",
        "_engine",
        "_eof_asked",
        "_eof_received",
        "_eof_sent",
        "_high_water",
        "_incoming",
        "_is_closing",
        "_is_flowing",
        "_is_lost",
        "_is_reading_paused",
        "_is_writing_paused",
        "_low_water",
        "_outgoing",
        "_outgoing_size",
        "_protocol",
        "_reset",
        "_take",
        "on_ended",
        "stream_id",
    )

    def __init__(self, carrier: Carrier, stream_id: int, high_water: int, low_water: int) -> None:
        super().__init__()
        self.stream_id = stream_id
        self.on_ended: Callable[[], None] | None = None
        self._carrier = carrier
        self._engine = carrier.engine
        self._protocol: asyncio.Protocol = _UNSET
        self._high_water = high_water
        self._low_water = low_water
        self._outgoing: list[bytes | memoryview] = []
        self._outgoing_size = 0
        self._take: Callable[[], bytes] | None = None  # what `write_soon` was told
        self._is_writing_paused = False
        self._eof_asked = False
        self._eof_sent = False
        self._incoming: deque[DataReceived] = deque()
        self._is_reading_paused = True
        self._is_flowing = False  # reading, nothing buffered, not closing: data is delivered at once
        self._eof_received = False
        self._is_closing = False
        self._is_lost = False
        self._reset: TunnelReset | None = None  # the peer's reset, while earlier data is still unread

    # -- asyncio.Transport: writing --------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_asked or self._is_lost or not data or self._reset is not None:
            return
        if not self._outgoing:
            self._carrier.mark(self)
        self._buffer(data if type(data) is bytes else bytes(data))

    def write_soon(self, take: Callable[[], bytes]) -> None:
        """Write what `take` returns at the end of this loop turn. It is called once.

        A protocol that has much to say in little pieces does not pay for a write each.
        """
        if not (self._eof_asked or self._is_lost or self._reset is not None):
            self._take = take
            self._carrier.mark(self)

    def write_eof(self) -> None:
        if not self._eof_asked and not self._is_lost:
            self.take_over()
            self._eof_asked = True
            self._carrier.mark(self)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        """Send buffered data and END_STREAM, read nothing more, and let the peer's side go (RFC 9113 8.1)."""
        if self._is_closing or self._is_lost:
            return
        self._is_closing = True
        self._is_flowing = False
        self._discard_incoming()
        if self._eof_sent:
            self._let_go()
        else:
            self.write_eof()

    def abort(self) -> None:
        """Reset the stream. What was written before is sent as far as the windows allow, as TCP would have by now: the
        peer may get a response's head and its reset from the same loop turn."""
        if not self._is_lost:
            self.take_over()
            for data in self._outgoing:
                if self._engine.send_data(self.stream_id, data, False) < len(data):
                    break
            self._carrier.reset(self, ErrorCode.CANCEL)
            self.lost(None)

    def is_closing(self) -> bool:
        return self._is_closing or self._is_lost

    def get_write_buffer_size(self) -> int:
        return self._outgoing_size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_water = self._high_water if high is None else high
        self._low_water = self._high_water // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_water, self._high_water

    # -- asyncio.Transport: reading --------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._is_reading_paused = True
        self._is_flowing = False

    def resume_reading(self) -> None:
        """Resume reading. Buffered data is delivered in a later loop turn, never from inside this call.

        A protocol that asks for more data is not ready for it before it has returned to the loop.
        """
        self._is_reading_paused = False
        if self._incoming:
            self._carrier.loop.call_soon(self._deliver_incoming)
        else:
            self._is_flowing = not (self._is_closing or self._is_lost)

    def _deliver_incoming(self) -> None:
        while self._incoming and not self._is_reading_paused and not self._is_lost:
            self._deliver(self._incoming.popleft())
            self._carrier.mark(self)
        self._is_flowing = not (self._incoming or self._is_reading_paused or self._is_closing or self._is_lost)
        if self._reset is not None and not self._incoming:
            self._end_by_reset(self._reset)

    def is_reading(self) -> bool:
        return not self._is_reading_paused

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)  # compiled protocols do not inherit from it

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peer` is the authenticated Peer. Other names refer to the connection (peername, sockname, ssl_object)."""
        return self._carrier.peer if name == "peer" else self._carrier.transport.get_extra_info(name, default)

    @property
    def is_started(self) -> bool:
        """Whether the tunnel has been connected to a protocol."""
        return self._protocol is not _UNSET

    # -- the driver's side -----------------------------------------------------------------------------------------

    def announce_close(self) -> None:
        """Tell the protocol that the connection will end.

        A protocol that talks to its own peer through the tunnel can announce this, and continue over another tunnel.
        """
        if isinstance(self._protocol, Announced):
            self._protocol.announce_close()

    def start(self, protocol: asyncio.Protocol) -> None:
        """Connect the established tunnel to its protocol, and deliver buffered data."""
        self._protocol = protocol
        self._is_reading_paused = False
        protocol.connection_made(self)
        if not self._is_reading_paused:
            self.resume_reading()

    def received(self, event: DataReceived) -> None:
        if self._is_flowing:
            self._deliver(event)
            return
        self._incoming.append(event)
        if self._is_closing:
            self._discard_incoming()
            self._end_if_both()

    def take_over(self) -> None:
        """Write what was to be written soon."""
        take, self._take = self._take, None
        if take is not None and (data := take()):
            self._buffer(data)

    def push(self) -> bool:
        """Give the engine as much of what was taken over as the windows allow. Returns False if bytes remain."""
        if self._is_lost or self._eof_sent or self._reset is not None:
            return True
        chunks = self._outgoing
        if len(chunks) > 1 and self._outgoing_size < len(chunks) * _LARGE_CHUNK:
            chunks[:] = [b"".join(chunks)]
        if self._eof_asked and not chunks:
            self._engine.send_data(self.stream_id, b"", True)
        before = self._outgoing_size
        while chunks:
            data = chunks[0]
            sent = self._engine.send_data(self.stream_id, data, self._eof_asked and len(chunks) == 1)
            self._outgoing_size -= sent
            if sent < len(data):
                chunks[0] = memoryview(data)[sent:]
                self._carrier.block(self, self._outgoing_size < before)
                self._maybe_resume()
                return False
            del chunks[0]
        if self._eof_asked:
            self._eof_sent = True
            if self._is_closing:
                self._let_go()
            else:
                self._end_if_both()
        elif self._is_writing_paused:
            self._maybe_resume()
        return True

    def lost(self, error: Exception | None) -> None:
        """End the tunnel. Tell the protocol once, and not from inside its own call."""
        if self._is_lost:
            return
        self._is_lost = True
        self._is_flowing = False
        self._take = None
        self._outgoing.clear()
        self._outgoing_size = 0
        self._discard_incoming()
        self._carrier.forget(self)
        self._carrier.loop.call_soon(self._protocol.connection_lost, error)
        self._protocol = _UNSET  # breaks a reference cycle, so that memory is freed without the garbage collector
        if self.on_ended is not None:
            self.on_ended()

    def reset_received(self, error: TunnelReset) -> None:
        """Handle the peer's reset. Data that the peer sent before is delivered first (RFC 9113 section 8.1)."""
        self._take = None
        self._outgoing.clear()
        self._outgoing_size = 0
        if self._incoming and not self._is_closing:
            self._reset = error
        else:
            self._end_by_reset(error)

    def _end_by_reset(self, error: TunnelReset) -> None:
        is_orderly = self._eof_received and error.code == ErrorCode.NO_ERROR
        self.lost(None if is_orderly else error)

    def _deliver(self, event: DataReceived) -> None:
        if event.data:
            self._protocol.data_received(event.data)
        self._engine.consume(self.stream_id, event.flow_length)
        if event.end_stream:
            self._eof_received = True
            if not self._is_closing and not self._is_lost and not self._protocol.eof_received():
                self.close()
            self._end_if_both()

    def _buffer(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._outgoing_size += len(data)
        if self._outgoing_size > self._high_water and not self._is_writing_paused:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def _let_go(self) -> None:
        """Everything is sent and nothing more will be read: tell a peer that is still sending to stop."""
        if not self._eof_received:
            self._carrier.reset(self, ErrorCode.NO_ERROR)
        self.lost(None)

    def _end_if_both(self) -> None:
        if self._eof_sent and self._eof_received:
            self.lost(None)

    def _discard_incoming(self) -> None:
        for event in self._incoming:
            self._engine.consume(self.stream_id, event.flow_length)
            self._eof_received = self._eof_received or event.end_stream
        self._incoming.clear()

    def _maybe_resume(self) -> None:
        if self._is_writing_paused and self._outgoing_size <= self._low_water:
            self._is_writing_paused = False
            self._protocol.resume_writing()
