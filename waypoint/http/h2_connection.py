"""An HTTP/2 connection over a transport with its streams, the common part of client and server.

A stream sends what windows and transport accept and keeps the rest; its exchange is then told to pause. Received DATA
is returned to the window only while the stream is read. A slow reader thus stops only the other side of its own
exchange, not other streams of the connection.
"""

import asyncio
from collections.abc import Iterable
from typing import cast

from l4.config.settings import Settings
from l4.hbone.settings import HboneSettings
from l4.hbone.tunnel import Tunnel
from l4.http2.engines import Engine, connect
from l4.http2.errors import ErrorCode, StreamUnavailable
from l4.http2.events import ConnectionFailed, DataReceived, Event, SettingsChanged, WindowOpened
from policies.attributes import Headers
from policies.last_look import check_fields
from waypoint.http.limits import inner_limits_of
from waypoint.http.settings import HttpSettings


class Http2Stream:
    """One stream. Calls after its end have no effect."""

    __slots__ = (
        "_connection",
        "_has_ended",
        "_is_paused",
        "_trailers",
        "_unconsumed",
        "_waiting",
        "is_over",
        "is_received",
        "pushed",
        "stream_id",
    )

    def __init__(self, connection: "Http2Connection", stream_id: int) -> None:
        self.stream_id = stream_id
        self.is_received = False  # the peer's last byte was received
        self.is_over = False
        self.pushed = 0  # bytes sent to the engine
        self._connection = connection
        self._waiting: list[bytes | memoryview] = []
        self._trailers: Headers = []
        self._has_ended = False  # nothing more will be queued
        self._is_paused = False
        self._unconsumed = 0

    # -- sending ---------------------------------------------------------------------------------------------------

    def send_body(self, data: bytes) -> bool:
        """Send data. Returns False while some of it waits for the peer; `resumed` is called when it is sent."""
        if self.is_over:
            return True
        connection = self._connection
        self._waiting.append(data)
        if connection.is_write_paused or len(self._waiting) > 1:
            connection.blocked[self.stream_id] = self
            return False
        is_sent = self.push()
        connection.flush()
        return is_sent

    def send_end(self, trailers: Headers) -> None:
        """End the stream. Raises Unwritable if the trailers are invalid."""
        if self.is_over or self._has_ended:
            return
        if trailers:
            check_fields(trailers)
        self._has_ended = True
        self._trailers = trailers
        if not self._waiting:
            self.push()
            self._connection.flush()

    def push(self) -> bool:
        """Give the engine as much as the windows allow. Returns whether that was everything."""
        try:
            return self._push()
        except StreamUnavailable:  # the peer has reset it; the event follows in the same read
            self._waiting.clear()
            return True

    def _push(self) -> bool:
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            sent = self._connection.engine.send_data(self.stream_id, data, False)
            self.pushed += sent
            if sent < len(data):
                self._waiting.append(memoryview(data)[sent:])
                self._connection.blocked[self.stream_id] = self
                return False
        if self._has_ended:
            self._send_end()
        return True

    def _send_end(self) -> None:
        engine = self._connection.engine
        if self._trailers:
            engine.send_headers(self.stream_id, self._trailers, True)
        else:
            engine.send_data(self.stream_id, b"", True)
        self.sent()

    # -- receiving -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        unconsumed, self._unconsumed = self._unconsumed, 0
        if unconsumed and not self.is_over:
            self._connection.engine.consume(self.stream_id, unconsumed)
            self._connection.flush()

    def data(self, event: DataReceived) -> None:
        if event.data:
            self.received(event.data)
        if self._is_paused and not self.is_over:
            self._unconsumed += event.flow_length
        else:
            self._connection.engine.consume(self.stream_id, event.flow_length)
        if event.end_stream:
            self.end([])

    def end(self, trailers: Headers) -> None:
        if not self.is_received:
            self.is_received = True
            self.received_end(trailers)

    def cut(self, code: ErrorCode) -> None:
        """Reset the stream."""
        if not self.is_over:
            self._connection.engine.reset(self.stream_id, code)
            self.close()
            self._connection.flush()

    def close(self) -> None:
        """End the stream, and return its unconsumed data to the connection's window."""
        self.is_over = True
        self._waiting.clear()
        if self._unconsumed:
            self._connection.engine.consume(self.stream_id, self._unconsumed)
            self._unconsumed = 0
        self._connection.forget(self)

    # -- overridden by both sides ----------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        raise NotImplementedError

    def received_end(self, trailers: Headers) -> None:
        raise NotImplementedError

    def sent(self) -> None:
        """Everything was sent, including END_STREAM."""
        raise NotImplementedError

    def resumed(self) -> None:
        """All waiting data was sent."""
        raise NotImplementedError


class Http2Connection(asyncio.Protocol):
    """Moves bytes between a transport and an engine, and events to streams."""

    __slots__ = (
        "_is_due",
        "_transport",
        "_tunnel",
        "blocked",
        "engine",
        "is_gone",
        "is_write_paused",
        "loop",
        "settings",
        "streams",
    )

    def __init__(self, settings: Settings, *, is_client: bool) -> None:
        self.settings = settings.of(HttpSettings)
        self.loop = asyncio.get_running_loop()
        engine = settings.of(HboneSettings).http2_engine
        self.engine = connect(Engine(engine), is_client=is_client, limits=inner_limits_of(settings))
        self.streams: dict[int, Http2Stream] = {}
        self.blocked: dict[int, Http2Stream] = {}  # streams with waiting data, longest waiting first
        self.is_write_paused = False
        self.is_gone = False
        self._tunnel: Tunnel | None = None
        self._is_due = False  # the tunnel will ask for the engine's output

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._tunnel = transport if isinstance(transport, Tunnel) else None
        self.engine.start()
        self.flush()

    def data_received(self, data: bytes) -> None:
        streams = self.streams
        for event in self.receive(data):
            if type(event) is DataReceived:
                stream: Http2Stream | None = streams.get(event.stream_id)
                if stream is None:
                    self.engine.consume(event.stream_id, event.flow_length)
                else:
                    stream.data(event)
            else:
                self.handle(event)
        self.flush()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self.unblock()
        self.flush()

    def close(self) -> None:
        """Close the connection now, with all its streams."""
        if not self.is_gone:
            self._transport.abort()

    # -- for streams -----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write, unless the transport is full. The flood guard bounds what the engine then holds back.

        A tunnel takes everything at once, when the loop has turned.
        """
        if self._is_due or self.is_write_paused:
            return
        if self._tunnel is None:
            self._write()
        else:
            self._is_due = True
            self._tunnel.write_soon(self._take)

    def end(self) -> None:
        """Send what is queued, and close."""
        self._write()
        self._transport.close()

    def _write(self) -> None:
        output = self.engine.take_output()
        if output and not self.is_gone:
            self._transport.write(output)

    def _take(self) -> bytes:
        self._is_due = False
        return self.engine.take_output()

    def forget(self, stream: Http2Stream) -> None:
        self.streams.pop(stream.stream_id, None)
        self.blocked.pop(stream.stream_id, None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterable[Event]:
        return self.engine.receive(data, self.loop.time())

    def handle(self, event: Event) -> None:
        """Handle an event. Subclasses handle their own events first."""
        match event:
            case WindowOpened(stream_id=0) | SettingsChanged():
                self.unblock()
            case WindowOpened(stream_id=stream_id):
                stream = self.blocked.pop(stream_id, None)
                if stream is not None and stream.push():
                    stream.resumed()
            case ConnectionFailed():
                self.end()
            case _:
                pass

    def unblock(self) -> None:
        blocked, self.blocked = self.blocked, {}
        for stream_id, stream in blocked.items():
            if self.is_write_paused:
                self.blocked[stream_id] = stream
            elif not stream.is_over:
                is_sent = stream.push()
                self._write()  # so that the transport can pause us
                if is_sent:
                    stream.resumed()
