"""HTTP/2 towards an endpoint: one connection shared by many exchanges, each on its own stream.

A request that the peer provably never processed (a refused stream, or one excluded by its GOAWAY) counts as undelivered
and may be retried elsewhere, whatever its method (RFC 9113 section 8.7).
"""

import asyncio
from collections.abc import Callable

from l4.config.settings import Settings
from l4.http2.errors import ErrorCode, StreamUnavailable
from l4.http2.events import (
    ConnectionFailed,
    Event,
    GoawayReceived,
    InformationalReceived,
    ResponseReceived,
    SettingsChanged,
    StreamReset,
    TrailersReceived,
)
from policies.attributes import Headers, RequestHead
from policies.connection_pool import DEFAULT_POOL, ConnectionPool
from waypoint.errors import AttemptFailed, UpstreamClosed, UpstreamConnectFailed, UpstreamProtocolError, UpstreamReset
from waypoint.http.events import Body, ResponseSink
from waypoint.http.h2 import format_request, received_response, received_trailers, response_head, size_of
from waypoint.http.h2_connection import Http2Connection, Http2Stream

_MAX_STREAMS_IN_ALL = 2**30  # stream ids are used up at 2**31
_MAX_INFORMATIONAL = 8


class ClientStream(Http2Stream):
    """Implements `events.Upstream`."""

    __slots__ = ("_head", "_informational", "_sink", "has_answered", "is_reused")

    def __init__(self, connection: "Http2Client") -> None:
        super().__init__(connection, 0)
        self.is_reused = connection.is_used
        self.has_answered = False
        self._sink: ResponseSink | None = None
        self._informational = 0

    # -- events.Upstream -------------------------------------------------------------------------------------------

    def send_head(self, head: RequestHead, body: Body, sink: ResponseSink) -> int:
        connection = self._connection
        headers = format_request(head, body)
        self._head = head
        self._sink = sink
        self._has_ended = body.is_empty or body.length == 0
        if head.upgrade and not connection.engine.peer_allows_connect_protocol:
            connection.loop.call_soon(
                self.fail, UpstreamProtocolError("the endpoint does not support extended CONNECT")
            )
            return 0
        try:
            self.stream_id = connection.engine.open_stream(headers, self._has_ended)
        except StreamUnavailable as error:  # the connection failed in this loop turn
            connection.loop.call_soon(self.fail, UpstreamConnectFailed(str(error)))
            return 0
        connection.streams[self.stream_id] = self
        connection.flush()
        return size_of(headers)

    def abort(self) -> None:
        self._sink = None
        self.cut(ErrorCode.CANCEL)

    def show(self, sink: ResponseSink) -> None:
        if self._sink is not None:
            self._sink = sink

    def pause_response(self) -> None:
        self.pause()

    def resume_response(self) -> None:
        self.resume()

    # -- Http2Stream -----------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.response_body(data)

    def received_end(self, trailers: Headers) -> None:
        sink, self._sink = self._sink, None
        if not self._has_ended or self._waiting:  # the endpoint does not need the rest of the request
            self.cut(ErrorCode.NO_ERROR)
        elif not self.is_over:
            self.close()
        if sink is not None:
            sink.response_end(trailers)

    def sent(self) -> None:
        pass

    def resumed(self) -> None:
        if self._sink is not None:
            self._sink.resume_upstream()

    def informational(self, headers: Headers) -> None:
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            self._refuse(UpstreamProtocolError("too many informational responses"))
        elif self._sink is not None:
            try:
                head, _ = response_head(headers, False, self._head)
            except UpstreamProtocolError as error:
                self._refuse(error)
            else:
                self._sink.response_informational(head)

    def response(self, event: ResponseReceived) -> None:
        self.has_answered = True
        if self._sink is None:
            return
        try:
            head, body = received_response(event, self._head)
        except UpstreamProtocolError as error:
            self._refuse(error)
            return
        self._sink.response_head(head, body)
        if event.end_stream:
            self.end([])

    def _refuse(self, error: UpstreamProtocolError) -> None:
        """Reject the response on this stream."""
        self.cut(ErrorCode.PROTOCOL_ERROR)
        self.fail(error)

    def fail(self, error: AttemptFailed) -> None:
        """The stream ended before its response was complete."""
        if not self.is_over:
            self.close()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.attempt_failed(error)


class Http2Client(Http2Connection):
    """One connection to an endpoint.

    `on_gone` is called once, when the connection accepts no further streams, and `on_room` whenever a stream has ended.
    `is_ready` is done when the endpoint has sent SETTINGS, which gives its stream limit and proves that it speaks
    HTTP/2. No request is sent before.
    """

    __slots__ = ("_is_retired", "_on_gone", "_on_room", "_opened", "_pool", "idle_since", "is_ready", "is_used")

    def __init__(
        self,
        settings: Settings,
        on_gone: Callable[["Http2Client"], None],
        on_room: Callable[[], None] = lambda: None,
        pool: ConnectionPool = DEFAULT_POOL,
    ) -> None:
        super().__init__(settings, is_client=True)
        self._on_room = on_room
        self._pool = pool
        self._on_gone = on_gone
        self._is_retired = False
        self._opened = 0
        self.is_ready: asyncio.Future[None] = self.loop.create_future()
        self.is_used = False
        self.idle_since = self.loop.time()

    def stream(self) -> ClientStream | None:
        """Return a stream for an exchange that sends its head at once, or None if there is no room."""
        engine, limit = self.engine, self._pool.max_concurrent_streams
        if self._is_retired or engine.own_stream_count >= engine.peer_max_concurrent_streams:
            return None
        if limit is not None and engine.own_stream_count >= limit:
            return None
        stream = ClientStream(self)
        self.is_used = True
        self._opened += 1
        if self._opened >= (self._pool.max_requests_per_connection or _MAX_STREAMS_IN_ALL):
            self.loop.call_soon(self.retire)
        return stream

    def announce_close(self) -> None:
        """The connection's tunnel will end. Use another connection for new exchanges."""
        self.retire()

    def retire(self) -> None:
        """Open no further streams, and close when the last one has ended."""
        if not self._is_retired:
            self._is_retired = True
            self._on_gone(self)
        if not self.streams and not self.is_gone:
            self.engine.goaway(ErrorCode.NO_ERROR)
            self.end()

    # -- Http2Connection -------------------------------------------------------------------------------------------

    def connection_lost(self, error: Exception | None) -> None:
        self.is_gone = True
        self._not_ready(str(error or "the endpoint closed the connection"))
        self.retire()
        self._fail_all(UpstreamClosed(str(error or "the endpoint closed the connection")))

    def handle(self, event: Event) -> None:
        if type(event) is ResponseReceived:
            if stream := self._find(event.stream_id):
                stream.response(event)
        elif type(event) is TrailersReceived:
            if stream := self._find(event.stream_id):
                stream.end(received_trailers(event))
        elif type(event) is InformationalReceived:
            if stream := self._find(event.stream_id):
                stream.informational(event.headers)
        elif type(event) is StreamReset:
            self._reset(event)
        elif type(event) is GoawayReceived:
            self.retire()
            for stream_id in [it for it in self.streams if it > event.last_stream_id]:
                if stream := self._find(stream_id):
                    stream.fail(UpstreamReset("the endpoint is closing the connection", is_undelivered=True))
        else:
            if type(event) is SettingsChanged:
                if not self.is_ready.done():
                    self.is_ready.set_result(None)
            elif type(event) is ConnectionFailed:
                self._not_ready(f"the endpoint does not speak HTTP/2: {event.sentence}")
                self.retire()
                self._fail_all(UpstreamProtocolError(event.sentence))
            super().handle(event)

    def forget(self, stream: Http2Stream) -> None:
        super().forget(stream)
        self._on_room()
        if not self.streams:
            self.idle_since = self.loop.time()
            if self._is_retired:
                self.loop.call_soon(self.retire)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _find(self, stream_id: int) -> ClientStream | None:
        stream = self.streams.get(stream_id)
        return stream if isinstance(stream, ClientStream) else None

    def _reset(self, event: StreamReset) -> None:
        stream = self._find(event.stream_id)
        if stream is None:
            return
        if not event.by_peer:
            stream.fail(UpstreamProtocolError(event.sentence))
        elif event.code is ErrorCode.NO_ERROR and stream.is_received:
            stream.close()
        else:
            is_undelivered = event.code is ErrorCode.REFUSED_STREAM
            stream.fail(UpstreamReset(f"reset with {event.code.name}", is_undelivered=is_undelivered))

    def _not_ready(self, why: str) -> None:
        if not self.is_ready.done():
            self.is_ready.set_exception(UpstreamConnectFailed(why))
            self.is_ready.exception()  # mark as retrieved, whether or not somebody awaits it

    def _fail_all(self, error: AttemptFailed) -> None:
        for stream in list(self.streams.values()):
            assert isinstance(stream, ClientStream)
            stream.fail(error)
