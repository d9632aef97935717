"""What both sides of HTTP/2 share at run time: one connection over one transport, and the streams on it.

A stream sends what the windows and the transport take and keeps the rest, which its exchange is told about; received
DATA is given back to the peer only while the stream is read. So a slow reader on either side stops the other side of
its own exchange, and no other stream of the connection.
"""

import asyncio
from collections.abc import Iterable
from typing import cast

from l4.config.settings import Settings
from l4.hbone.settings import HboneSettings
from l4.http2.engines import Engine, connect
from l4.http2.errors import ErrorCode, StreamUnavailable
from l4.http2.events import ConnectionFailed, DataReceived, Event, SettingsChanged, WindowOpened
from policies.attributes import Headers
from policies.last_look import check_fields
from waypoint.http.limits import inner_limits_of
from waypoint.http.settings import HttpSettings


class Http2Stream:
    """One stream: the part that doesn't depend on who opened it. Calls after its end do nothing."""

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
        self.is_received = False  # the peer's last byte has come
        self.is_over = False
        self.pushed = 0  # bytes that the windows have taken
        self._connection = connection
        self._waiting: list[bytes] = []
        self._trailers: Headers = []
        self._has_ended = False  # nothing will be added to what waits
        self._is_paused = False
        self._unconsumed = 0

    # -- sending ---------------------------------------------------------------------------------------------------

    def send_body(self, data: bytes) -> bool:
        """False while some of it waits for the peer: its turn to go on comes with `resumed`."""
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
        """Raises Unwritable for trailers that are."""
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
        """Give the engine as much as the windows take; whether that was all."""
        try:
            return self._push()
        except StreamUnavailable:  # the peer has cut it: the event that says so comes later in the same read
            self._waiting.clear()
            return True

    def _push(self) -> bool:
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            sent = self._connection.engine.send_data(self.stream_id, data, False)
            self.pushed += sent
            if sent < len(data):
                self._waiting.append(data[sent:])
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
        """Reset the stream and forget it."""
        if not self.is_over:
            self._connection.engine.reset(self.stream_id, code)
            self.close()
            self._connection.flush()

    def close(self) -> None:
        """The stream is over: what was received and not yet given back belongs to the connection's window."""
        self.is_over = True
        self._waiting.clear()
        if self._unconsumed:
            self._connection.engine.consume(self.stream_id, self._unconsumed)
            self._unconsumed = 0
        self._connection.forget(self)

    # -- what the two sides do with it -----------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        raise NotImplementedError

    def received_end(self, trailers: Headers) -> None:
        raise NotImplementedError

    def sent(self) -> None:
        """Everything is sent, END_STREAM too."""
        raise NotImplementedError

    def resumed(self) -> None:
        """What waited has been sent."""
        raise NotImplementedError


class Http2Connection(asyncio.Protocol):
    """Moves bytes between a transport and an engine, and events to streams."""

    __slots__ = ("_transport", "blocked", "engine", "is_gone", "is_write_paused", "loop", "settings", "streams")

    def __init__(self, settings: Settings, *, is_client: bool) -> None:
        self.settings = settings.of(HttpSettings)
        self.loop = asyncio.get_running_loop()
        engine = settings.of(HboneSettings).http2_engine
        self.engine = connect(Engine(engine), is_client=is_client, limits=inner_limits_of(settings))
        self.streams: dict[int, Http2Stream] = {}
        self.blocked: dict[int, Http2Stream] = {}  # streams with something waiting, who waits longest first
        self.is_write_paused = False
        self.is_gone = False

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.engine.start()
        self.flush()

    def data_received(self, data: bytes) -> None:
        streams = self.streams
        for event in self.receive(data):
            if type(event) is DataReceived:
                stream = streams.get(event.stream_id)
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
        """End the connection now, whatever is under way."""
        if not self.is_gone:
            self._transport.abort()

    # -- for streams -----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Not while the transport is full: what the engine holds back is bounded by its flood guard."""
        if not self.is_write_paused:
            self._write()

    def end(self) -> None:
        """Send what there is, and close."""
        self._write()
        self._transport.close()

    def _write(self) -> None:
        output = self.engine.take_output()
        if output and not self.is_gone:
            self._transport.write(output)

    def forget(self, stream: Http2Stream) -> None:
        self.streams.pop(stream.stream_id, None)
        self.blocked.pop(stream.stream_id, None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterable[Event]:
        return self.engine.receive(data, self.loop.time())

    def handle(self, event: Event) -> None:
        """What both sides do; each side has events of its own before it."""
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
                self.flush()  # so that the transport can say when it is enough
                if is_sent:
                    stream.resumed()
