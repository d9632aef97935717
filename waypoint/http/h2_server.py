"""HTTP/2 from a client: each stream of an inner connection is one exchange (RFC 9113).

A malformed request resets its stream only. A stream that is opened and reset in one read never becomes an exchange
(CVE-2023-44487). A connection closes in two steps (RFC 9113 section 6.8): the client is told first, and its streams are
final only when its answer to a PING shows that it has read that.
"""

import asyncio
from collections.abc import Callable, Iterable

from l4.config.settings import Settings
from l4.hbone.settings import DrainSettings, HboneSettings
from l4.http2.errors import ErrorCode, StreamUnavailable
from l4.http2.events import ConnectionFailed, Event, PongReceived, RequestReceived, StreamReset, TrailersReceived
from l4.http2.farewell import Farewell
from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.errors import BadRequest, ExchangeError, StreamStalled
from waypoint.http.events import EMPTY, Body, RequestSink
from waypoint.http.grpc import is_grpc
from waypoint.http.h2 import format_response, received_request, size_of
from waypoint.http.h2_connection import Http2Connection, Http2Stream
from waypoint.http.limits import inner_reason
from waypoint.http.trailers import request_trailers

_ROUND_TRIP_SECONDS = 5.0
"""Time limit for the client's answer to the PING."""
_SWEEP_SECONDS = 5.0


class ServerStream(Http2Stream):
    """Implements `events.Downstream` for one exchange."""

    __slots__ = ("_body_bytes", "_body_since", "_pushed_before", "_stalled_since", "exchange", "has_deadlines")

    protocol = "HTTP/2"

    def __init__(self, connection: "Http2Server", stream_id: int) -> None:
        super().__init__(connection, stream_id)
        self.exchange: RequestSink | None = None
        self.has_deadlines = True  # whether the request's body has a deadline
        self._body_bytes = 0
        self._body_since = self._stalled_since = connection.loop.time()
        self._pushed_before = 0

    # -- events.Downstream -----------------------------------------------------------------------------------------

    def send_head(self, head: ResponseHead, body: Body) -> int:
        headers = format_response(head, body)
        has_no_body = body.is_empty or body.length == 0
        if self._send_headers(headers, has_no_body) and has_no_body:
            self._has_ended = True
            self.sent()
            self._connection.flush()
        return size_of(headers)

    def send_informational(self, head: ResponseHead) -> None:
        self._send_headers(format_response(head, EMPTY), False)

    def _send_headers(self, headers: Headers, end_stream: bool) -> bool:
        """Send headers. Returns False if the stream has ended."""
        if self.is_over:
            return False
        try:
            self._connection.engine.send_headers(self.stream_id, headers, end_stream)
        except StreamUnavailable:  # as in `push`
            return False
        self._connection.flush()
        return True

    def send_end(self, trailers: Headers) -> None:
        self.exchange = None
        super().send_end(trailers)

    def reset(self) -> None:
        self.exchange = None
        self.cut(ErrorCode.INTERNAL_ERROR)

    def pause_request(self) -> None:
        self.pause()

    def resume_request(self) -> None:
        self.resume()

    # -- Http2Stream -----------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self.exchange is not None:
            self.exchange.request_body(data)

    def received_end(self, trailers: Headers) -> None:
        if self.exchange is not None:
            self.exchange.request_end(trailers)

    def trailers(self, fields: Headers) -> None:
        try:
            trailers = request_trailers(fields, self._connection.settings)
        except ExchangeError as error:
            self._give_up(error)
        else:
            self.end(trailers)

    def sent(self) -> None:
        if not self.is_received:  # RFC 9113 section 8.1: the rest of the request is not needed
            self._connection.engine.reset(self.stream_id, ErrorCode.NO_ERROR)
        self.close()

    def resumed(self) -> None:
        if self.exchange is not None:
            self.exchange.resume_response()

    def check(self, now: float, stall_seconds: float) -> None:
        """End the stream if its client is too slow, in sending or reading."""
        settings = self._connection.settings
        if not self._waiting or self.pushed != self._pushed_before:
            self._pushed_before = self.pushed
            self._stalled_since = now
        elif now - self._stalled_since >= stall_seconds:
            self.cut(ErrorCode.CANCEL)
            self._give_up(StreamStalled())
            return
        if self.is_received or self._is_paused or not self.has_deadlines:
            self._body_bytes = 0
            self._body_since = now
            return
        elapsed = now - self._body_since
        if elapsed >= settings.body_grace_seconds and self._body_bytes < elapsed * settings.body_bytes_per_second:
            self._give_up(BadRequest("request_body_timeout", status=408, limit="body_bytes_per_second"))

    def _give_up(self, error: ExchangeError) -> None:
        if self.exchange is not None:
            self.exchange.request_failed(error)

    def lost(self) -> None:
        """The client has reset the stream or disconnected."""
        self.close()
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.downstream_lost()


class Http2Server(Http2Connection):
    """One connection from a client.

    `begin(stream, head, body)` creates an exchange, which is then started. `refused(error)` reports a request that
    never became an exchange, and returns its response. The same applies to `Http1Server`.
    """

    __slots__ = (
        "_begin",
        "_drain_silence_seconds",
        "_farewell",
        "_head_timer",
        "_idle_since",
        "_is_closing",
        "_on_closed",
        "_refused",
        "_round_trip",
        "_stall_seconds",
        "_timer",
    )

    def __init__(
        self,
        settings: Settings,
        begin: Callable[[ServerStream, RequestHead, Body], RequestSink],
        refused: Callable[[ExchangeError], tuple[ResponseHead, bytes]],
        on_closed: Callable[["Http2Server"], None],
    ) -> None:
        super().__init__(settings, is_client=False)
        self._stall_seconds = settings.of(HboneSettings).stall_seconds
        self._drain_silence_seconds = settings.of(DrainSettings).drain_silence_seconds
        self._begin = begin
        self._refused = refused
        self._on_closed = on_closed
        self._farewell = Farewell(self.engine)
        self._is_closing = False  # close as soon as it has
        self._round_trip: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._timer = self.loop.call_later(_SWEEP_SECONDS, self._sweep)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_gone = True
        self._on_closed(self)
        for timer in (self._timer, self._head_timer, self._round_trip):
            if timer is not None:
                timer.cancel()
        for stream in list(self.streams.values()):
            assert isinstance(stream, ServerStream)
            stream.lost()

    def policies_changed(self) -> None:
        """End requests that are no longer allowed."""
        for stream in list(self.streams.values()):
            assert isinstance(stream, ServerStream)
            if stream.exchange is not None:
                stream.exchange.policies_changed()

    def announce_close(self) -> None:
        """Ask the client to open no new streams. Those that it still opens are served."""
        if self._farewell.is_announced or self.is_gone:
            return
        self._farewell.announce()
        self._farewell.ask()
        self.flush()

    def close_when_idle(self) -> None:
        """Ask the client to open no new streams, and close when the last one has ended."""
        if self._is_closing or self.is_gone:
            return
        self._is_closing = True
        self.announce_close()
        if self._farewell.is_heard:
            self._last_goaway()
        else:
            self._round_trip = self.loop.call_later(_ROUND_TRIP_SECONDS, self._last_goaway)

    # -- Http2Connection -------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterable[Event]:
        events = super().receive(data)
        if self._head_timer is None and self.engine.head_since is not None:
            self._head_timer = self.loop.call_later(self.settings.head_seconds, self._check_head)
        cancelled = {event.stream_id for event in events if type(event) is StreamReset}
        if not cancelled:
            return events
        return [it for it in events if type(it) is not RequestReceived or it.stream_id not in cancelled]

    def handle(self, event: Event) -> None:
        if type(event) is RequestReceived:
            self._request(event)
        elif type(event) is TrailersReceived:
            if stream := self._find(event.stream_id):
                stream.trailers(event.headers)
        elif type(event) is StreamReset:
            if not event.by_peer:
                self._refused(BadRequest("http2.protocol_error", limit=inner_reason(event.reason)))
            if stream := self._find(event.stream_id):
                stream.lost()
        elif type(event) is PongReceived:
            if self._farewell.hears(event.payload) and self._is_closing:
                self._last_goaway()
        else:
            if type(event) is ConnectionFailed:
                self._refused(BadRequest("http2.protocol_error", limit=inner_reason(event.reason)))
            super().handle(event)

    def forget(self, stream: Http2Stream) -> None:
        super().forget(stream)
        if not self.streams:
            self._idle_since = self.loop.time()
            if self._farewell.is_final:
                self.loop.call_soon(self._close_if_idle)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _find(self, stream_id: int) -> ServerStream | None:
        stream = self.streams.get(stream_id)
        return stream if isinstance(stream, ServerStream) else None

    def _request(self, event: RequestReceived) -> None:
        stream = ServerStream(self, event.stream_id)
        self.streams[event.stream_id] = stream
        stream.is_received = event.end_stream
        try:
            head, body = received_request(event, self.settings)
        except ExchangeError as error:
            answer, text = self._refused(error)
            stream.send_head(answer, Body(len(text)))
            if text:
                stream.send_body(text)
            stream.send_end([])
            return
        stream.has_deadlines = not (body.is_opaque or is_grpc(head.get(b"content-type")))
        exchange = stream.exchange = self._begin(stream, head, body)
        exchange.start()
        if event.end_stream:
            exchange.request_end([])

    def _check_head(self) -> None:
        """Close a connection with an incomplete head that is late, since it blocks all other frames."""
        self._head_timer = None
        since, now = self.engine.head_since, self.loop.time()
        if since is None:
            return
        if now - since < self.settings.head_seconds:
            self._head_timer = self.loop.call_at(since + self.settings.head_seconds, self._check_head)
            return
        self._refused(BadRequest("http2.head_timeout", status=408, limit="head_seconds"))
        self.engine.goaway(ErrorCode.ENHANCE_YOUR_CALM)
        self.end()

    def _last_goaway(self) -> None:
        if not self.is_gone and self._farewell.finish():
            self.flush()
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not self.streams and not self.is_gone:
            self.end()

    def _sweep(self) -> None:
        now, stall_seconds = self.loop.time(), self._stall_seconds
        if self._is_closing:
            stall_seconds = min(stall_seconds, self._drain_silence_seconds)
        for stream in list(self.streams.values()):
            assert isinstance(stream, ServerStream)
            stream.check(now, stall_seconds)
        if not self.streams and now - self._idle_since >= self.settings.idle_http_seconds:
            self.close_when_idle()
        if not self.is_gone:  # streams may still arrive until the client has read the GOAWAY
            self._timer = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
