"""The verdict of a codec on bytes: each kind has one function, which gets the bytes in pieces."""

from dataclasses import dataclass, field, fields
from typing import Any

from l4.http2 import frames
from l4.http2.connection import Connection, Limits
from l4.http2.engines import Engine, connect
from l4.http2.errors import ErrorCode
from l4.http2.events import (
    ConnectionFailed,
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from l4.http2.flood_limits import FloodLimits
from policies.attributes import Headers, RequestHead, ResponseHead
from tests.contracts.http2_engine import GET, split
from waypoint.errors import ExchangeError, UpstreamProtocolError
from waypoint.http import h1_format, h1_request, h1_response
from waypoint.http.events import EMPTY, Body
from waypoint.http.settings import HttpSettings

SETTINGS = HttpSettings()
_FLOOD = {it.name for it in fields(FloodLimits)}


@dataclass(slots=True)
class RequestVerdict:
    upstream: bytes = b""
    """The whole requests that go upstream, in canonical form, chunked bodies in one chunk."""
    statuses: tuple[int, ...] = ()
    """Of all answers, when the application answers 200 to everything."""
    limit: str = ""
    """What a refusal is counted under."""
    opaque: bytes = b""
    """What came behind a request to upgrade."""


@dataclass(slots=True)
class ResponseVerdict:
    downstream: bytes = b""
    """As `upstream`; only heads, until the response is whole."""
    seen: str = "head"
    """`head` before the response's head, `body` before its end, then `after`."""
    is_kept_alive: bool = False
    is_refused: bool = False


@dataclass(slots=True)
class FramesVerdict:
    delivered: dict[int, str] = field(default_factory=dict)
    """Stream → the whole message that came of it."""
    resets: dict[int, str] = field(default_factory=dict)
    goaway: str = ""
    limit: str = ""
    """Of the last refusal, if it has one."""


def read_requests(pieces: list[bytes], settings: HttpSettings = SETTINGS) -> RequestVerdict:
    it = _Forwarder()
    reader = h1_request.RequestReader(it, settings)
    try:
        for piece in pieces:
            reader.feed(piece)
    except ExchangeError as error:
        it.verdict.statuses += (error.status,)
        it.verdict.limit = error.limit
    return it.verdict


def read_response(
    pieces: list[bytes],
    *,
    method: bytes = b"GET",
    upgrade: bytes = b"",
    closes: bool = False,
    settings: HttpSettings = SETTINGS,
) -> ResponseVerdict:
    """`closes`: the connection ends after the bytes."""
    it = _Client()
    reader = h1_response.ResponseReader(it, settings)
    reader.expect(method, upgrade)
    try:
        for piece in pieces:
            reader.feed(piece)
        if closes:
            reader.feed_eof()
    except UpstreamProtocolError:
        it.verdict.is_refused = True
    return it.verdict


def read_frames(
    engine: Engine,
    pieces: list[bytes],
    *,
    is_client: bool = True,
    limits: dict[str, Any] | None = None,
    is_unread: bool = False,
) -> FramesVerdict:
    """After the handshake, and when the peer is a server, with two requests under way."""
    limits = {"allow_connect_protocol": True, **(limits or {})}
    flood = FloodLimits(**{name: value for name, value in limits.items() if name in _FLOOD})
    others = {name: value for name, value in limits.items() if name not in _FLOOD}
    it = _Receiver(connect(engine, is_client=not is_client, limits=Limits(**others, flood=flood)), is_unread)
    it.connection.start()
    it.receive((frames.PREFACE if is_client else b"") + frames.settings_frame({}))
    it.receive(frames.frame(frames.SETTINGS, frames.ACK, 0))
    if not is_client:
        for _ in range(2):
            it.connection.open_stream(GET, True)
        it.connection.take_output()
    for piece in pieces:
        if not it.is_over:
            it.receive(piece)
    return it.verdict


class _Forwarder:
    def __init__(self) -> None:
        self.verdict = RequestVerdict()
        self._head = b""
        self._body = b""
        self._is_chunked = False
        self._is_opaque = False

    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None:
        self._head = h1_format.format_request(head, body)
        self._is_chunked = body.length is None and not body.is_opaque
        self._body = b""
        self._is_opaque = body.is_opaque
        if body.is_opaque:
            self.request_end([])

    def request_body(self, data: bytes) -> None:
        if self._is_opaque:
            self.verdict.opaque += data
        else:
            self._body += data

    def request_end(self, trailers: Headers) -> None:
        body = _in_one_chunk(self._body, trailers) if self._is_chunked else self._body
        self.verdict.upstream += self._head + body
        self.verdict.statuses += (200,)


class _Client:
    def __init__(self) -> None:
        self.verdict = ResponseVerdict()
        self._body = b""
        self._is_chunked = False

    def informational_head(self, head: ResponseHead) -> None:
        self.verdict.downstream += h1_format.format_response(head, EMPTY, closes=False)

    def response_head(self, head: ResponseHead, body: Body, is_kept_alive: bool) -> None:
        self.verdict.downstream += h1_format.format_response(head, body, closes=False)
        self.verdict.is_kept_alive = is_kept_alive
        self.verdict.seen = "body"
        self._is_chunked = body.length is None and not body.is_opaque

    def response_body(self, data: bytes) -> None:
        self._body += data

    def response_end(self, trailers: Headers) -> None:
        self.verdict.downstream += _in_one_chunk(self._body, []) if self._is_chunked else self._body
        self.verdict.seen = "after"


def _in_one_chunk(data: bytes, trailers: Headers) -> bytes:
    return (h1_format.format_chunk(data) if data else b"") + h1_format.format_last_chunk(trailers)


@dataclass(slots=True)
class _Receiver:
    connection: Connection
    is_unread: bool
    verdict: FramesVerdict = field(default_factory=FramesVerdict)
    messages: dict[int, list[str]] = field(default_factory=dict)
    is_over: bool = False

    def receive(self, data: bytes) -> None:
        for event in self.connection.receive(data, 1000.0):
            self._take(event)
        for kind, _, _, payload in split(self.connection.take_output()):
            if kind == frames.GOAWAY:
                self.verdict.goaway = ErrorCode(int.from_bytes(payload[4:8])).name

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id, headers, end_stream):
                head = dict(headers)
                path = head.get(b":path", b"").decode("latin-1")
                self.messages[stream_id] = [head[b":method"].decode(), path, ""]
                self._ended(stream_id, end_stream)
            case ResponseReceived(stream_id, headers, end_stream):
                self.messages[stream_id] = [dict(headers)[b":status"].decode(), ""]
                self._ended(stream_id, end_stream)
            case DataReceived(stream_id=stream_id):
                if not self.is_unread:
                    self.connection.consume(stream_id, event.flow_length)
                self.messages[stream_id][-1] += event.data.decode("latin-1")
                self._ended(stream_id, event.end_stream)
            case TrailersReceived(stream_id):
                self._ended(stream_id, True)
            case StreamReset(stream_id, code, by_peer=False):
                self.verdict.resets[stream_id] = code.name
                self.verdict.limit = event.reason
            case ConnectionFailed():
                self.verdict.limit = event.reason
                self.is_over = True

    def _ended(self, stream_id: int, end_stream: bool) -> None:
        if end_stream:
            self.verdict.delivered[stream_id] = " ".join(filter(None, self.messages[stream_id]))
