"""Parse HTTP/1.1 requests, without I/O (RFC 9112).

llhttp (httptools) parses heads and chunks, and `hygiene` builds the canonical head. llhttp is strict about lengths,
chunks, line ends and folding. `hygiene` decides what llhttp leaves open. Where llhttp is lenient (spaces in the request
line, empty lines, odd versions, endless chunk extensions), this module is strict, with the help of `framing`: llhttp
gets the bytes of one head, line or chunk at a time, and bodies of known length bypass it. The reader calls its consumer
as parts arrive, and raises the client's errors.

Clients often send the same head again. An ordinary head that comes a second time is kept as a `KnownHead`. The same
bytes are not parsed a third time.
"""

from dataclasses import dataclass
from typing import Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from policies.attributes import Header, Headers, RepeatedHeaders, RequestHead
from waypoint.errors import BadRequest, ExchangeError, RouteNotFound, UpgradeRefused
from waypoint.http.events import OPAQUE, Body
from waypoint.http.framing import MAX_KNOWN_HEAD, ChunkScanner, HeadCutter
from waypoint.http.hygiene import canonical_request
from waypoint.http.llhttp import END_OF_HEAD, error_name
from waypoint.http.settings import HttpSettings
from waypoint.http.trailers import request_trailers

_CR = 0x0D
_WEBSOCKET = b"websocket"
_NOT_IN_HTTP10 = frozenset({b"expect", b"te"})


class RequestConsumer(Protocol):
    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None: ...

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: Headers) -> None: ...


@dataclass(slots=True)
class KnownHead:
    """A head without an upgrade, after which the connection stays open, and the body of known length after it."""

    data: bytes
    head: RequestHead
    body: Body
    length: int  # of the body


class RequestReader:
    """Parses the requests of one connection."""

    __slots__ = (
        "_chunks",
        "_consumer",
        "_empty_lines",
        "_error",
        "_extra_methods",
        "_field_count",
        "_fields",
        "_head",
        "_is_after_cr",
        "_is_between",
        "_is_ended",
        "_is_opaque",
        "_is_upgrade",
        "_known",
        "_last",
        "_left",
        "_max_head_bytes",
        "_method",
        "_parser",
        "_parser_expects_body",
        "_settings",
        "_target",
        "head_count",
        "is_http10",
        "is_in_head",
    )

    def __init__(self, consumer: RequestConsumer, settings: HttpSettings) -> None:
        self._consumer = consumer
        self._settings = settings
        self._extra_methods = settings.extra_method_names
        self._method = b""  # the real method, if llhttp gets another one
        self._max_head_bytes = (
            0 if self._extra_methods else settings.head_bytes
        )  # maximum size of a head for the fast path
        self._parser = HttpRequestParser(self)
        self._parser_expects_body = False  # although it will not see it
        self._known: KnownHead | None = None
        self._last = b""  # the last ordinary head
        self._head = HeadCutter(settings.head_bytes)
        self._chunks: ChunkScanner | None = None  # of the current body
        self._left = 0  # bytes left of the current body, if its length is known
        self._target = b""
        self._fields: list[Header] = []
        self._field_count = 0
        self._empty_lines = 0
        self._error: ExchangeError | None = None
        self._is_between = True  # between two requests
        self._is_after_cr = False  # of an empty line
        self._is_upgrade = False  # llhttp treats what follows as another protocol
        self._is_opaque = False  # what follows is another protocol
        self._is_ended = False  # the client asked to close after this request
        self.is_in_head = False
        self.is_http10 = False  # version of the last head
        self.head_count = 0

    @property
    def head_bytes(self) -> int:
        """Size of the last head."""
        return self._head.size

    def release(self) -> None:
        """Release references to objects that refer to this reader, because there is nothing more to read."""
        del self._parser, self._consumer, self._error

    def feed(self, data: bytes) -> None:
        """Process bytes from the client. Raises ExchangeError; the connection cannot be read after that."""
        known: KnownHead | None = self._known
        if known is not None and self._is_between and data.startswith(known.data):
            self._repeat(known)
            if len(data) > len(known.data):
                self._feed_parts(data[len(known.data) :])
        elif self._is_between and data[0] > _CR and 3 < data.find(END_OF_HEAD) + 4 == len(data) <= self._max_head_bytes:
            head = self._head  # exactly one head: by far the most frequent case; the result is the same
            head.raw = data
            head.size = len(data)
            self.head_count += 1
            self._parse(data)
            head.raw = b""
        else:
            self._feed_parts(data)

    def _repeat(self, known: KnownHead) -> None:
        """The client sends the known head again."""
        self.head_count += 1
        self._head.size = len(known.data)
        self._empty_lines = 0
        self.is_http10 = False
        if known.length:
            self._left = known.length
            self._is_between = False
        self._consumer.request_head(known.head.again(), known.body, True)
        if not known.length:
            self._consumer.request_end([])

    def _feed_parts(self, data: bytes) -> None:
        self._is_between = False
        while data:
            if self._left:
                piece = data[: self._left]
                self._feed_body(piece)
            elif self._chunks is not None:
                piece = self._feed_chunks(self._chunks, data)
            elif self._is_opaque:
                self._consumer.request_body(data)
                return
            elif self._is_ended:  # RFC 9112 section 9.6
                return
            elif not self._head.raw and (self._is_after_cr or data[0] <= _CR):
                piece = data[:1]
                self._feed_empty_line(piece)
            else:
                piece = self._feed_head(data)
            data = data[len(piece) :]
        is_in_message = self._left or self._chunks is not None or self._head.raw or self._is_after_cr
        self._is_between = not (is_in_message or self._is_opaque or self._is_ended)

    def _feed_empty_line(self, byte: bytes) -> None:
        if byte != (b"\n" if self._is_after_cr else b"\r"):
            raise BadRequest("http1.invalid_empty_line")
        self._is_after_cr = not self._is_after_cr
        if byte == b"\n":
            self._empty_lines += 1
            if self._empty_lines > self._settings.empty_lines:
                raise BadRequest("http1.too_many_empty_lines", limit="empty_lines")

    def _feed_head(self, data: bytes) -> bytes:
        head = self._head
        if not head.raw:
            self.head_count += 1
        piece = head.cut(data)
        self.is_in_head = not head.is_complete
        if not self._extra_methods:
            self._parse(piece)
        elif head.is_complete and not head.is_too_large:
            self._parse(self._with_known_method(bytes(head.raw[: head.size])))
        if head.is_too_large:
            raise BadRequest("http1.headers_too_large", status=431, limit="head_bytes")
        if head.is_complete:
            head.raw = b""
            self._empty_lines = 0
        return piece

    def _with_known_method(self, head: bytes) -> bytes:
        """llhttp rejects unknown methods. Replace a method that a setting adds by POST."""
        method = head.partition(b" ")[0]
        self._method = method if method in self._extra_methods else b""
        return b"POST" + head[len(method) :] if self._method else head

    def _feed_body(self, piece: bytes) -> None:
        self._left -= len(piece)
        self._consumer.request_body(piece)
        if not self._left:
            if self._parser_expects_body:
                self._parser_expects_body = False
                self._parser = HttpRequestParser(self)
            self._consumer.request_end([])

    def _feed_chunks(self, chunks: ChunkScanner, data: bytes) -> bytes:
        piece = data[: chunks.scan(data)]
        self._parse(piece)
        if chunks.exceeded:
            status = 431 if chunks.exceeded == "head_bytes" else 400
            raise BadRequest("http1.invalid_chunks", status=status, limit=chunks.exceeded)
        return piece

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._upgrade_passed()
        except HttpParserCallbackError as error:
            raise self._error or error from None
        except HttpParserError as error:
            raise BadRequest(error_name(error)) from None

    def on_message_begin(self) -> None:
        self._target = b""
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        try:
            if not self._is_upgrade:
                self._head_complete()
        except ExchangeError as error:
            self._error = error
            raise

    def _head_complete(self) -> None:
        fields, self._fields = self._fields, []
        self._field_count = len(fields)
        parser = self._parser
        method = self._method or parser.get_method()
        start = method + b" " + self._target
        self.is_http10 = False
        if not self._head.raw.startswith(start + b" HTTP/1.1\r\n"):
            has_coding = any(name.lower() == b"transfer-encoding" for name, _ in fields)
            is_http10 = self._head.raw.startswith(start + b" HTTP/1.0\r\n")
            if not is_http10 or has_coding or not self._settings.accept_http_10:
                raise _odd_request_line(parser.get_http_version(), has_coding=has_coding)
            self.is_http10 = True
        if len(fields) > self._settings.head_fields:
            raise BadRequest("http1.too_many_headers", status=431, limit="head_fields")
        if method == b"CONNECT":
            raise RouteNotFound
        head, body = canonical_request(method, self._target, fields, self._settings)
        if self.is_http10:  # features that HTTP/1.0 lacks
            head.headers = [header for header in head.headers if header[0] not in _NOT_IN_HTTP10]
        if parser.should_upgrade():
            self._is_upgrade = True
            head.upgrade = b"" if self.is_http10 else _upgrade(head, body, fields)
        if head.upgrade:
            self._is_opaque = True
            self._is_between = False
            body = OPAQUE
        elif body.is_empty:
            pass
        elif body.length is None:
            budget = self._settings.head_bytes - self._head.size
            self._chunks = ChunkScanner(self._settings.chunk_extension_bytes, budget)
            self._is_between = False
        else:
            self._left = body.length
            self._parser_expects_body = body.length > 0
            self._is_between = False
        is_kept_alive = parser.should_keep_alive()
        if not is_kept_alive:
            self._is_ended = True
            self._is_between = False
        elif not (self._is_upgrade or self.is_http10 or self._extra_methods or head.overrides):
            self._note(head, body)
        self._consumer.request_head(head, body, is_kept_alive)

    def _note(self, head: RequestHead, body: Body) -> None:
        """Keep an ordinary head that comes a second time. Nobody has changed `head` yet."""
        raw, size = self._head.raw, self._head.size
        if body.length is not None and size <= MAX_KNOWN_HEAD and isinstance(raw, bytes):
            data = raw[:size]
            if data == self._last:
                kept = head.again()
                kept.repeated = RepeatedHeaders(kept.headers)
                self._known = KnownHead(data, kept, body, body.length)
            self._last = data

    def _upgrade_passed(self) -> None:
        """Continue after an ignored Upgrade, at which llhttp stops: a body and the next request follow."""
        self._parser = HttpRequestParser(self)
        if self._is_opaque:
            return
        if self._chunks is not None:
            self._parser.feed_data(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        self._fields = []
        self._is_upgrade = False
        if self._chunks is None and not self._left:
            self._consumer.request_end([])

    def on_body(self, data: bytes) -> None:
        try:
            self._consumer.request_body(data)
        except ExchangeError as error:
            self._error = error
            raise

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        self._chunks = None
        fields = self._fields
        if not fields:
            self._consumer.request_end([])
            return
        if self._field_count + len(fields) > self._settings.head_fields:
            self._error = BadRequest("http1.too_many_trailers", status=431, limit="head_fields")
            raise self._error
        try:
            self._consumer.request_end(request_trailers(fields, self._settings))
        except ExchangeError as error:
            self._error = error
            raise


def _odd_request_line(version: str, *, has_coding: bool) -> BadRequest:
    """Return the error for a request line that llhttp accepts but that is not valid."""
    if version == "1.1":
        return BadRequest("http1.invalid_request_line")
    if version > "1.1":
        return BadRequest("http1.unsupported_version", status=505)
    if has_coding:
        return BadRequest("http1.transfer_encoding_in_old_version")
    return BadRequest("low_version", status=426)


def _upgrade(head: RequestHead, body: Body, fields: list[Header]) -> bytes:
    """Return the protocol to switch to, or empty.

    Unknown protocols (h2c, TLS/1.2) are ignored, as RFC 9110 section 7.8 allows. Raises UpgradeRefused for an
    incomplete WebSocket handshake.
    """
    values = (value for name, value in fields if name.lower() == b"upgrade")
    protocols = {it.partition(b"/")[0].strip(b" \t").lower() for value in values for it in value.split(b",")}
    if _WEBSOCKET not in protocols:
        return b""
    if protocols == {_WEBSOCKET} and head.method == b"GET" and body.length == 0:
        return _WEBSOCKET
    raise UpgradeRefused
