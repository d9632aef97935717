"""HTTP/1.1 towards an endpoint: one connection with one exchange at a time, reused if everything was valid.

A connection is reused only if request and response were complete and both sides agreed to keep it. After any
irregularity it is closed, so that no byte of one exchange can appear in another. Of an upgrade request only the head is
sent until the endpoint has agreed, because an endpoint that did not agree would read the rest as another request.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.errors import UpstreamClosed, UpstreamProtocolError
from waypoint.http import websocket
from waypoint.http.events import Body, ResponseSink
from waypoint.http.h1_format import format_chunk, format_last_chunk, format_request
from waypoint.http.h1_response import ResponseReader
from waypoint.http.settings import HttpSettings


class Http1Client(asyncio.Protocol):
    """Implements `events.Upstream`.

    `on_free` is called, with the loop's time, when the connection can serve another exchange. `on_gone` is called when
    it no longer can (also when it breaks while idle).
    """

    __slots__ = (
        "_accept",
        "_held",
        "_is_chunked",
        "_is_gone",
        "_is_holding",
        "_is_kept_alive",
        "_is_opaque",
        "_is_read_paused",
        "_is_retired",
        "_is_write_paused",
        "_loop",
        "_on_free",
        "_on_gone",
        "_reader",
        "_request_is_complete",
        "_sink",
        "_transport",
        "idle_since",
        "is_reused",
        "served",
    )

    def __init__(
        self,
        settings: HttpSettings,
        on_free: Callable[["Http1Client", float], None],
        on_gone: Callable[["Http1Client"], None],
    ) -> None:
        self._reader = ResponseReader(self, settings)
        self._on_free = on_free
        self._on_gone = on_gone
        self._sink: ResponseSink | None = None
        self._is_chunked = False
        self._is_opaque = False
        self._is_holding = False  # whether data is held until the endpoint has switched protocols
        self._held: list[bytes] = []
        self._accept = b""  # expected answer to our WebSocket key
        self._is_write_paused = False
        self._is_read_paused = False
        self._is_kept_alive = True
        self._request_is_complete = True
        self._is_gone = False
        self._is_retired = False  # the current exchange is the last one
        self.is_reused = False
        self.idle_since = 0.0
        self.served = 0  # number of exchanges

    @property
    def has_answered(self) -> bool:
        """Whether a byte of the current response was received."""
        return self._reader.has_begun

    def get_extra_info(self, name: str) -> object:
        return self._transport.get_extra_info(name)

    def close(self) -> None:
        if not self._is_gone:
            self._is_gone = True
            self._transport.close()
            self._on_gone(self)

    def announce_close(self) -> None:
        """The connection's tunnel will end. Use another connection for the next exchange."""
        self._is_retired = True
        if self.is_reused and self._sink is None and self._request_is_complete:
            self.close()

    # -- events.Upstream -------------------------------------------------------------------------------------------

    def send_head(self, head: RequestHead, body: Body, sink: ResponseSink) -> int:
        data = self._format_upgrade(head, body) if body.is_opaque else format_request(head, body)
        self._sink = sink
        self._is_opaque = self._is_holding = body.is_opaque
        self._is_chunked = body.length is None and not body.is_opaque
        self._request_is_complete = False
        self._is_kept_alive = True
        self._reader.expect(head.method, head.upgrade)
        self._transport.write(data)
        return len(data)

    def send_body(self, data: bytes) -> bool:
        if self._is_holding:
            self._held.append(data)
            return False
        self._transport.write(format_chunk(data) if self._is_chunked else data)
        return not self._is_write_paused

    def send_end(self, trailers: Headers) -> None:
        self._request_is_complete = True
        if self._is_chunked:
            self._transport.write(format_last_chunk(trailers))
        elif self._is_opaque and not self._is_holding:
            self._transport.write_eof()

    def abort(self) -> None:
        self._sink = None
        if not self._is_gone:
            self._is_gone = True
            self._transport.abort()
            self._on_gone(self)

    def show(self, sink: ResponseSink) -> None:
        if self._sink is not None:
            self._sink = sink

    def pause_response(self) -> None:
        self._is_read_paused = True
        self._transport.pause_reading()

    def resume_response(self) -> None:
        self._is_read_paused = False
        self._transport.resume_reading()

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except UpstreamProtocolError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        if self._sink is not None and not self._reader.feed_eof():
            self._fail(UpstreamClosed("the endpoint closed the connection before the response was complete"))
        self.close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(UpstreamClosed(str(error or "the endpoint closed the connection")))
        self._reader.release()

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._sink is not None:
            self._sink.resume_upstream()

    # -- h1_response.ResponseConsumer ------------------------------------------------------------------------------

    def informational_head(self, head: ResponseHead) -> None:
        if self._sink is not None:
            self._sink.response_informational(head)

    def response_head(self, head: ResponseHead, body: Body, is_kept_alive: bool) -> None:
        if self._is_opaque:
            self._is_kept_alive = False
            self._answered(head, body)
            return
        self._is_kept_alive = is_kept_alive
        if self._sink is not None:
            self._sink.response_head(head, body)

    def response_body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.response_body(data)

    def response_end(self, trailers: Headers) -> None:
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if self._is_kept_alive and self._request_is_complete and not self._is_gone and not self._is_retired:
            self.is_reused = True
            if self._is_read_paused:  # the client could not take the last bytes at once
                self.resume_response()
            self._on_free(self, self._loop.time())
        elif self._request_is_complete or self._is_opaque:
            self.close()
        else:
            self.abort()  # the endpoint would wait for the rest of the request
        sink.response_end(trailers)

    # -- upgrades --------------------------------------------------------------------------------------------------

    def _format_upgrade(self, head: RequestHead, body: Body) -> bytes:
        """Format an upgrade. An HTTP/2 client sends no key (RFC 8441 section 5), so we create one and check the
        answer."""
        self._accept = b""
        if head.get(b"sec-websocket-key") is not None:
            return format_request(head, body)
        key = websocket.new_key()
        self._accept = websocket.accept_of(key)
        return format_request(replace(head, headers=[*head.headers, (b"sec-websocket-key", key)]), body)

    def _answered(self, head: ResponseHead, body: Body) -> None:
        if body.is_opaque:
            self._check_accept(head)
        if self._sink is not None:
            self._sink.response_head(head, body)
        if body.is_opaque:
            self._release()

    def _check_accept(self, head: ResponseHead) -> None:
        if not self._accept:
            return
        if head.get(b"sec-websocket-accept") != self._accept:
            raise UpstreamProtocolError("the endpoint's sec-websocket-accept does not match the key")
        head.headers = [header for header in head.headers if header[0] != b"sec-websocket-accept"]

    def _release(self) -> None:
        """The endpoint has switched protocols. Send what the client has sent in the meantime."""
        self._is_holding = False
        held, self._held = self._held, []
        for data in held:
            self._transport.write(data)
        if self._request_is_complete:
            self._transport.write_eof()
        elif held and not self._is_write_paused and self._sink is not None:
            self._sink.resume_upstream()

    def _fail(self, error: UpstreamProtocolError | UpstreamClosed) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.attempt_failed(error)
