"""HTTP/1.1 from a client: a tunnel's bytes become requests, handled one after the other.

Pipelined requests wait here, in order and bounded; while any waits, the tunnel is not read. Malformed requests are
answered in their turn, and the connection then ends. A connection that ends with a response lingers: it is closed when
the client has closed its side, or after some time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from l4.config.settings import Settings
from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.errors import BadRequest, ExchangeError
from waypoint.http.events import EMPTY, Body, RequestSink
from waypoint.http.h1_format import format_chunk, format_last_chunk, format_response, format_response_http10
from waypoint.http.h1_request import RequestReader
from waypoint.http.settings import HttpSettings

_PACE_SECONDS = 10.0
"""Interval of checks of a request body's pace."""
QUIET_SECONDS = 1.0
"""While we stop: minimum idle time before we close a connection, since its client may be sending a request.

Until then its next response carries `connection: close`.
"""


class _Waiting:
    """A pipelined request."""

    __slots__ = ("body", "chunks", "head", "is_http10", "is_kept_alive", "size", "trailers")

    def __init__(self, head: RequestHead, body: Body, is_kept_alive: bool, is_http10: bool, size: int) -> None:
        self.head = head
        self.body = body
        self.is_kept_alive = is_kept_alive
        self.is_http10 = is_http10
        self.size = size
        self.chunks: list[bytes] = []
        self.trailers: Headers | None = None  # None until the request is complete


class Http1Server(asyncio.Protocol):
    """Implements `events.Downstream` for the current exchange.

    `begin(server, head, body)` creates an exchange, which is then started. `refused(error)` reports a request that
    never became an exchange, and returns its response.
    """

    __slots__ = (
        "_awaited_head",
        "_begin",
        "_body_bytes",
        "_body_since",
        "_body_timer",
        "_exchange",
        "_head",
        "_head_timer",
        "_idle_since",
        "_is_chunked",
        "_is_closing",
        "_is_draining",
        "_is_ended",
        "_is_http10",
        "_is_kept_alive",
        "_is_opaque",
        "_is_request_paused",
        "_is_write_paused",
        "_loop",
        "_on_closed",
        "_reader",
        "_refusal",
        "_refused",
        "_request_is_complete",
        "_settings",
        "_timer",
        "_transport",
        "_waiting",
        "_watched_head",
        "protocol",
    )

    def __init__(
        self,
        settings: Settings,
        begin: Callable[["Http1Server", RequestHead, Body], RequestSink],
        refused: Callable[[ExchangeError], tuple[ResponseHead, bytes]],
        on_closed: Callable[["Http1Server"], None],
    ) -> None:
        self._settings = settings.of(HttpSettings)
        self._begin = begin
        self._refused = refused
        self._on_closed = on_closed
        self._reader = RequestReader(self, self._settings)
        self._waiting: deque[_Waiting] = deque()
        self._refusal: ExchangeError | None = None  # error of the request after the waiting ones
        self._exchange: RequestSink | None = None
        self._head: RequestHead | None = None  # of the exchange's request
        self._request_is_complete = True
        self._is_opaque = False  # the client sends another protocol
        self._is_kept_alive = True
        self._is_draining = False  # the next response is the last one
        self._is_closing = False  # and if no request arrives, the connection is closed
        self.protocol = "HTTP/1.1"  # of the exchange's request
        self._is_http10 = False
        self._is_chunked = False
        self._is_write_paused = False
        self._is_request_paused = False
        self._is_ended = False  # read no further request
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self._awaited_head = 0  # number of the head that the timer belongs to
        self._body_timer: asyncio.TimerHandle | None = None
        self._watched_head = 0  # number of the head whose body the timer belongs to
        self._body_since = 0.0
        self._body_bytes = 0
        self._loop = asyncio.get_running_loop()

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._idle_since = self._loop.time()
        self._timer = self._loop.call_later(self._settings.idle_http_seconds, self._check_idle)

    def data_received(self, data: bytes) -> None:
        if self._is_ended:
            return
        try:
            self._reader.feed(data)
        except ExchangeError as error:
            self._refuse(error)
            return
        if self._reader.is_in_head:
            self._await_head()
        elif not self._request_is_complete and self._body_timer is None:
            self._watch_body()

    def eof_received(self) -> bool:
        """The client sends nothing more. Requests received so far are still answered."""
        if self._is_opaque and self._exchange is not None:
            self.request_end([])
        elif not self._is_ended and (not self._request_is_complete or self._reader.is_in_head):
            self._transport.abort()
        elif self._waiting and self._waiting[-1].trailers is None:
            self._waiting.pop()
        self._is_ended = True
        return self._exchange is not None or bool(self._waiting) or self._refusal is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._on_closed(self)
        self._reader.release()
        self._is_ended = True
        self._waiting.clear()
        for timer in (self._timer, self._head_timer, self._body_timer):
            if timer is not None:
                timer.cancel()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.downstream_lost()

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._exchange is not None:
            self._exchange.resume_response()

    # -- h1_request.RequestConsumer --------------------------------------------------------------------------------

    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        if self._exchange is None and not self._waiting:
            self._start(head, body, is_kept_alive, self._reader.is_http10)
            return
        if len(self._waiting) >= self._settings.pipelined_requests:
            raise BadRequest("http1.too_many_pipelined_requests", limit="pipelined_requests")
        self._waiting.append(_Waiting(head, body, is_kept_alive, self._reader.is_http10, self._reader.head_bytes))
        self._transport.pause_reading()
        self._check_waiting()

    def request_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._waiting:
            waiting = self._waiting[-1]
            waiting.chunks.append(data)
            waiting.size += len(data)
            self._check_waiting()
        elif self._exchange is not None:
            self._exchange.request_body(data)

    def request_end(self, trailers: Headers) -> None:
        if self._waiting:
            self._waiting[-1].trailers = trailers
            return
        self._request_is_complete = True
        if self._exchange is not None:
            self._exchange.request_end(trailers)

    # -- events.Downstream -----------------------------------------------------------------------------------------

    def send_head(self, head: ResponseHead, body: Body) -> int:
        self._is_chunked = body.length is None and not body.is_opaque and not self._is_http10
        if self._is_http10 and body.length is None:
            self._is_kept_alive = False
        if not self._request_is_complete:
            self._is_kept_alive = False  # the rest of the request may not arrive
        elif self._is_draining and not self._waiting and self._refusal is None:
            self._is_kept_alive = False  # not before pipelined requests have been answered
        closes = not self._is_kept_alive and not body.is_opaque
        is_old = self._is_http10
        data = format_response_http10(head, body, closes) if is_old else format_response(head, body, closes)
        self._transport.write(data)
        return len(data)

    def send_informational(self, head: ResponseHead) -> None:
        if self._is_http10:  # RFC 9110 section 15.2
            return
        self._transport.write(format_response(head, EMPTY, closes=False))

    def send_body(self, data: bytes) -> bool:
        self._transport.write(format_chunk(data) if self._is_chunked else data)
        return not self._is_write_paused

    def send_end(self, trailers: Headers) -> None:
        if self._is_chunked:
            self._transport.write(format_last_chunk(trailers if trailers and self._takes_trailers() else []))
        self._exchange = None
        if self._is_request_paused:
            self.resume_request()
        if not self._is_kept_alive or not self._request_is_complete:
            self._linger()
        elif self._waiting or self._refusal is not None:
            self._loop.call_soon(self._next)
        elif self._is_ended:
            self._linger()
        else:
            self._idle_since = self._loop.time()
            if self._reader.is_in_head:
                self._await_head()
            elif self._is_closing:
                self._close_if_quiet()

    def reset(self) -> None:
        self._exchange = None
        self._is_ended = True
        self._transport.abort()

    def pause_request(self) -> None:
        self._is_request_paused = True
        self._transport.pause_reading()

    def resume_request(self) -> None:
        self._is_request_paused = False
        self._body_since = self._loop.time()
        self._body_bytes = 0
        if not self._waiting:
            self._transport.resume_reading()

    # -- inside ----------------------------------------------------------------------------------------------------

    def policies_changed(self) -> None:
        """End a request that is no longer allowed. The connection stays open if its response had not begun."""
        if self._exchange is not None:
            self._exchange.policies_changed()

    def announce_close(self) -> None:
        """Send `connection: close` with the next response and close after it. Keep waiting for the next request."""
        self._is_draining = True

    def close_when_idle(self) -> None:
        """The same, but wait only briefly for the next request."""
        self._is_draining = self._is_closing = True
        self._close_if_quiet()

    def _close_if_quiet(self) -> None:
        if self._exchange is not None or self._waiting or self._refusal is not None or self._reader.is_in_head:
            return
        if self._is_ended or self._transport.is_closing():
            return
        quiet_at = self._idle_since + QUIET_SECONDS
        if self._loop.time() >= quiet_at:
            self._is_ended = True
            self._transport.close()
        else:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(quiet_at, self._close_if_quiet)

    def _start(self, head: RequestHead, body: Body, is_kept_alive: bool, is_http10: bool) -> None:
        self._is_http10 = is_http10
        self.protocol = "HTTP/1.0" if is_http10 else "HTTP/1.1"
        self._is_opaque = body.is_opaque
        self._is_kept_alive = is_kept_alive and not self._is_opaque
        self._request_is_complete = body.length == 0
        self._head = head
        self._exchange = self._begin(self, head, body)
        self._exchange.start()

    def _next(self) -> None:
        """Start the next pipelined request."""
        if self._exchange is not None or self._transport.is_closing():
            return
        if not self._waiting:
            if self._refusal is not None:
                self._answer(self._refusal)
            return
        waiting = self._waiting.popleft()
        self._start(waiting.head, waiting.body, waiting.is_kept_alive, waiting.is_http10)
        self._pass_on(waiting)
        if self._waiting or self._refusal is not None:
            self._loop.call_soon(self._next)
        elif not self._is_request_paused:
            self._transport.resume_reading()

    def _pass_on(self, waiting: _Waiting) -> None:
        for chunk in waiting.chunks:
            if self._exchange is not None:
                self._exchange.request_body(chunk)
        if waiting.trailers is not None:
            self._request_is_complete = True
            if self._exchange is not None:
                self._exchange.request_end(waiting.trailers)

    def _check_waiting(self) -> None:
        if sum(waiting.size for waiting in self._waiting) > self._settings.pipelined_bytes:
            raise BadRequest("http1.too_many_pipelined_bytes", limit="pipelined_bytes")

    def _takes_trailers(self) -> bool:
        return self._head is not None and self._head.get(b"te") is not None  # hygiene allows only the value `trailers`

    def _refuse(self, error: ExchangeError) -> None:
        """Answer an invalid request after the exchanges before it, and end the connection."""
        self._is_ended = True
        if self._waiting and self._waiting[-1].trailers is None:
            self._waiting.pop()  # its body is the invalid part
        elif self._exchange is not None and not self._request_is_complete:
            self._is_kept_alive = False
            self._exchange.request_failed(error)
            return
        if self._exchange is None and not self._waiting:
            self._answer(error)
        else:
            self._refusal = error

    def _answer(self, error: ExchangeError) -> None:
        head, body = self._refused(error)
        self._transport.write(format_response(head, Body(len(body)), closes=True) + body)
        self._linger()

    def _linger(self) -> None:
        """End, but give the client time to read: closing with unread data could lose the response (RFC 9112 9.6)."""
        self._is_ended = True
        self._refusal = None
        transport = self._transport
        if transport.is_closing():
            return
        transport.write_eof()
        if self._waiting:
            self._waiting.clear()
            transport.resume_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._settings.linger_seconds, transport.close)

    def _await_head(self) -> None:
        if self._exchange is None and self._head_timer is None:
            self._awaited_head = self._reader.head_count
            self._head_timer = self._loop.call_later(self._settings.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self._reader.is_in_head or self._is_ended or self._exchange is not None:
            return
        if self._reader.head_count == self._awaited_head:
            self._refuse(BadRequest("request_header_timeout", status=408, limit="head_seconds"))
        else:
            self._await_head()

    def _watch_body(self) -> None:
        """Check later whether the body still arrives, and at what pace."""
        if self._settings.body_bytes_per_second and not self._is_opaque:
            self._watched_head = self._reader.head_count
            self._body_since = self._loop.time()
            self._body_bytes = 0
            self._body_timer = self._loop.call_later(self._settings.body_grace_seconds, self._check_pace)

    def _check_pace(self) -> None:
        self._body_timer = None
        if self._request_is_complete or self._exchange is None or self._is_ended:
            return
        settings = self._settings
        seconds = self._loop.time() - self._body_since
        if self._watched_head != self._reader.head_count or self._is_request_paused or self._awaits_continue():
            self._watch_body()
        elif seconds < settings.body_grace_seconds:
            self._body_timer = self._loop.call_later(settings.body_grace_seconds - seconds, self._check_pace)
        elif self._body_bytes >= seconds * settings.body_bytes_per_second:
            self._body_timer = self._loop.call_later(_PACE_SECONDS, self._check_pace)
        else:
            self._refuse(BadRequest("request_body_timeout", status=408, limit="body_bytes_per_second"))

    def _awaits_continue(self) -> bool:
        return self._body_bytes == 0 and self._head is not None and self._head.get(b"expect") is not None

    def _check_idle(self) -> None:
        left = self._idle_since + self._settings.idle_http_seconds - self._loop.time()
        if self._exchange is None and left <= 0:
            self._transport.close()
        else:
            self._timer = self._loop.call_later(max(left, 1.0), self._check_idle)
