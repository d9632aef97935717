"""The client's side of HTTP/1.1: a tunnel's bytes become requests, one exchange after the other.

Requests that come while an exchange is under way (pipelining) wait here, in order and bounded; the tunnel is not read
while any of them wait. Malformed requests are answered and end the connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from l4.config.settings import Settings
from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.errors import BadRequest, ExchangeError
from waypoint.http import h1
from waypoint.http.events import EMPTY, Body, RequestSink

_MAX_PIPELINED = 16


class _Waiting:
    """A request that came before its turn."""

    __slots__ = ("body", "chunks", "head", "is_kept_alive", "trailers")

    def __init__(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        self.head = head
        self.body = body
        self.is_kept_alive = is_kept_alive
        self.chunks: list[bytes] = []
        self.trailers: Headers | None = None  # None until the request is complete


class Http1Server(asyncio.Protocol):
    """Implements `events.Downstream` for the one exchange that is under way.

    `begin(server, head, body)` makes an exchange, which is then started; `refused(error)` reports a request that never
    became one, and gives its answer.
    """

    __slots__ = (
        "_begin",
        "_exchange",
        "_idle_since",
        "_is_chunked",
        "_is_ended",
        "_is_kept_alive",
        "_is_request_paused",
        "_is_write_paused",
        "_loop",
        "_on_closed",
        "_reader",
        "_refused",
        "_request_is_complete",
        "_settings",
        "_timer",
        "_transport",
        "_waiting",
    )

    protocol = "HTTP/1.1"

    def __init__(
        self,
        settings: Settings,
        begin: Callable[["Http1Server", RequestHead, Body], RequestSink],
        refused: Callable[[ExchangeError], tuple[ResponseHead, bytes]],
        on_closed: Callable[["Http1Server"], None],
    ) -> None:
        self._settings = settings
        self._begin = begin
        self._refused = refused
        self._on_closed = on_closed
        self._reader = h1.RequestReader(self, settings.head_bytes, settings.head_fields)
        self._waiting: deque[_Waiting] = deque()
        self._exchange: RequestSink | None = None
        self._request_is_complete = True
        self._is_kept_alive = True
        self._is_chunked = False
        self._is_write_paused = False
        self._is_request_paused = False
        self._is_ended = False  # no further request is read
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
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
        if self._reader.is_in_head and self._exchange is None:
            self._await_head()

    def eof_received(self) -> bool:
        """The client will send nothing more; what it asked for is still answered."""
        if not self._request_is_complete or self._reader.is_in_head:
            self._transport.abort()
            return False
        self._is_ended = True
        return self._exchange is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._on_closed(self)
        self._is_ended = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.downstream_lost()

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._exchange is not None:
            self._exchange.resume_response()

    # -- h1.RequestConsumer ----------------------------------------------------------------------------------------

    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        if self._exchange is None and not self._waiting:
            self._start(head, body, is_kept_alive)
            return
        if len(self._waiting) >= _MAX_PIPELINED:
            raise BadRequest("http1.too_many_pipelined_requests")
        self._waiting.append(_Waiting(head, body, is_kept_alive))
        self._transport.pause_reading()

    def request_body(self, data: bytes) -> None:
        if self._waiting:
            self._waiting[-1].chunks.append(data)
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
        self._is_chunked = body.length is None and not body.is_empty
        data = h1.format_response(head, body, closes=not self._is_kept_alive)
        self._transport.write(data)
        return len(data)

    def send_informational(self, head: ResponseHead) -> None:
        self._transport.write(h1.format_response(head, EMPTY, closes=False))

    def send_body(self, data: bytes) -> bool:
        self._transport.write(h1.format_chunk(data) if self._is_chunked else data)
        return not self._is_write_paused

    def send_end(self, trailers: Headers) -> None:
        if self._is_chunked:
            self._transport.write(h1.format_last_chunk(trailers))
        self._exchange = None
        if self._is_request_paused:
            self.resume_request()
        if not self._is_kept_alive or not self._request_is_complete or (self._is_ended and not self._waiting):
            self._is_ended = True
            self._waiting.clear()
            self._transport.close()
        elif self._waiting:
            self._loop.call_soon(self._next)
        else:
            self._idle_since = self._loop.time()

    def reset(self) -> None:
        self._exchange = None
        self._is_ended = True
        self._transport.abort()

    def pause_request(self) -> None:
        self._is_request_paused = True
        self._transport.pause_reading()

    def resume_request(self) -> None:
        self._is_request_paused = False
        if not self._waiting:
            self._transport.resume_reading()

    # -- inside ----------------------------------------------------------------------------------------------------

    def close_when_idle(self) -> None:
        """Finish the exchange that is under way, say `connection: close` with it if it isn't too late, and close."""
        self._is_kept_alive = False
        if self._exchange is None:
            self._is_ended = True
            self._transport.close()

    def _start(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        self._is_kept_alive = is_kept_alive and not self._is_ended
        self._request_is_complete = False
        self._exchange = self._begin(self, head, body)
        self._exchange.start()

    def _next(self) -> None:
        """The next pipelined request, as if it came now."""
        if self._exchange is not None or not self._waiting:
            return
        waiting = self._waiting.popleft()
        self._start(waiting.head, waiting.body, waiting.is_kept_alive)
        later, self._waiting = self._waiting, deque()
        for chunk in waiting.chunks:
            self.request_body(chunk)
        if waiting.trailers is not None:
            self.request_end(waiting.trailers)
        self._waiting = later
        if later:
            self._loop.call_soon(self._next)
        else:
            self._transport.resume_reading()

    def _refuse(self, error: ExchangeError) -> None:
        """Answer what cannot be understood, after the exchanges before it, and end."""
        self._is_ended = True
        if self._exchange is not None:
            self.reset() if not self._request_is_complete else self.close_when_idle()
            return
        self._is_kept_alive = False
        head, body = self._refused(error)
        self._transport.write(h1.format_response(head, Body(len(body)), closes=True) + body)
        self._transport.close()

    def _await_head(self) -> None:
        started = self._reader.head_count
        self._loop.call_later(self._settings.head_seconds, self._head_is_late, started)

    def _head_is_late(self, started: int) -> None:
        if self._reader.is_in_head and self._reader.head_count == started and not self._is_ended:
            self._refuse(BadRequest("request_header_timeout", status=408))

    def _check_idle(self) -> None:
        left = self._idle_since + self._settings.idle_http_seconds - self._loop.time()
        if self._exchange is None and left <= 0:
            self._transport.close()
        else:
            self._timer = self._loop.call_later(max(left, 1.0), self._check_idle)
