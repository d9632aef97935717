"""HTTP/1.1 messages as bytes (RFC 9112), without sockets. llhttp finds the framing, `hygiene` makes the head.

llhttp (httptools) is strict about lengths, chunks, line ends and folding; what it leaves open is settled in `hygiene`.
Readers push: they call their consumer as parts arrive, and raise what the peer did wrong.
"""

from typing import Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from policies.attributes import Header, Headers, RequestHead, ResponseHead
from waypoint.errors import BadRequest, ExchangeError, RouteNotFound, UpgradeRefused, UpstreamProtocolError
from waypoint.http.events import Body
from waypoint.http.hygiene import canonical_request, canonical_response

_MAX_INFORMATIONAL = 8
_TRAILERS_ALLOWED_ONLY_IF_NOT = frozenset(
    {b"transfer-encoding", b"content-length", b"host", b"connection", b"te", b"trailer", b"authorization", b"cookie"}
    | {b"content-type", b"content-encoding", b"content-range", b"cache-control", b"expect", b"max-forwards"}
    | {b"set-cookie", b"upgrade", b"keep-alive", b"proxy-connection", b"x-forwarded-for", b"x-forwarded-client-cert"}
)
_REASONS = {
    200: b"OK", 201: b"Created", 202: b"Accepted", 204: b"No Content", 206: b"Partial Content",
    301: b"Moved Permanently", 302: b"Found", 303: b"See Other", 304: b"Not Modified",
    307: b"Temporary Redirect", 308: b"Permanent Redirect",
    400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 409: b"Conflict", 417: b"Expectation Failed", 426: b"Upgrade Required",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable",
    504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip


class RequestConsumer(Protocol):
    def request_head(self, head: RequestHead, body: Body, is_kept_alive: bool) -> None: ...

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: Headers) -> None: ...


class ResponseConsumer(Protocol):
    def informational_head(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body, is_kept_alive: bool) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers) -> None: ...


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = (
        "_consumer",
        "_error",
        "_fed",
        "_fed_before",
        "_fields",
        "_is_in_message",
        "_max_bytes",
        "_max_fields",
        "_parser",
        "_quiet_since",
        "_target",
        "head_count",
        "is_in_head",
    )

    def __init__(self, consumer: RequestConsumer, max_head_bytes: int, max_head_fields: int) -> None:
        self._consumer = consumer
        self._max_bytes = max_head_bytes
        self._max_fields = max_head_fields
        self._parser = HttpRequestParser(self)
        self._fed = self._fed_before = self._quiet_since = 0
        self._target = b""
        self._fields: list[Header] = []
        self._error: ExchangeError | None = None
        self._is_in_message = False
        self.is_in_head = False
        self.head_count = 0

    def feed(self, data: bytes) -> None:
        """Take bytes from the client. Raises ExchangeError; the connection can't be read any further then."""
        while data:
            self._fed_before = self._fed  # so that what was fed since a head's start is never less than its size
            self._fed += len(data)
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                # llhttp stops at every Upgrade; those that got here were refused or are to be ignored (h2c).
                self._parser = HttpRequestParser(self)
                self._fed = self._fed_before + upgrade.args[0]
                data = data[upgrade.args[0] :]
                continue
            except HttpParserCallbackError as error:
                raise self._error or error from None
            except HttpParserError as error:
                raise BadRequest(_detail(error)) from None
            break
        # What is no body counts: a head, and what comes between and after chunks (extensions, trailers).
        if self._is_in_message and self._fed - self._quiet_since > self._max_bytes:
            raise BadRequest("http1.headers_too_large", status=431)

    def on_message_begin(self) -> None:
        self.is_in_head = self._is_in_message = True
        self.head_count += 1
        self._quiet_since = max(self._quiet_since, self._fed_before)
        self._target = b""
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_in_head = False
        try:
            self._head_complete()
        except ExchangeError as error:
            self._error = error
            raise

    def _head_complete(self) -> None:
        fields, self._fields = self._fields, []
        if len(fields) > self._max_fields:
            raise BadRequest("http1.too_many_headers", status=431)
        if self._fed - self._quiet_since > self._max_bytes and len(self._target) + _size(fields) > self._max_bytes:
            raise BadRequest("http1.headers_too_large", status=431)
        parser = self._parser
        version = parser.get_http_version()
        if version != "1.1":
            raise BadRequest("low_version", status=426 if version < "1.1" else 505)
        method = parser.get_method()
        if method == b"CONNECT":
            raise RouteNotFound
        if parser.should_upgrade() and not _asks_for_h2c(fields):
            raise UpgradeRefused
        head, body = canonical_request(method, self._target, fields)
        if parser.should_upgrade() and body.length != 0:
            raise UpgradeRefused  # llhttp takes what follows for another protocol's, not for the body
        self._consumer.request_head(head, body, parser.should_keep_alive())

    def on_body(self, data: bytes) -> None:
        self._quiet_since = self._fed
        self._consumer.request_body(data)

    def on_message_complete(self) -> None:
        self._is_in_message = False
        fields = self._fields
        if len(fields) > self._max_fields:
            self._error = BadRequest("http1.too_many_trailers", status=431)
            raise self._error
        self._consumer.request_end(_trailers(fields) if fields else [])


class ResponseReader:
    """Reads the responses of one connection, one at a time: `expect` before each."""

    __slots__ = (
        "_consumer",
        "_ends_with_connection",
        "_error",
        "_fields",
        "_informational",
        "_is_informational",
        "_max_bytes",
        "_max_fields",
        "_method",
        "_parser",
        "_quiet_bytes",
        "has_begun",
        "is_complete",
    )

    def __init__(self, consumer: ResponseConsumer, max_head_bytes: int, max_head_fields: int) -> None:
        self._consumer = consumer
        self._max_bytes = max_head_bytes
        self._max_fields = max_head_fields
        self._parser = HttpResponseParser(self)
        self._method = b""
        self._fields: list[Header] = []
        self._quiet_bytes = 0
        self._informational = 0
        self._is_informational = False
        self._ends_with_connection = False
        self._error: Exception | None = None
        self.is_complete = True
        self.has_begun = False

    def expect(self, method: bytes) -> None:
        """A request with this method has been sent; its response comes next."""
        self._method = method
        self._informational = 0
        self._quiet_bytes = 0
        self.is_complete = False
        self.has_begun = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the endpoint. Raises UpstreamProtocolError."""
        if self.is_complete:
            raise UpstreamProtocolError("bytes without a request")
        self.has_begun = True
        self._quiet_bytes += len(data)
        self._parse(data)
        if self._quiet_bytes > self._max_bytes and not self.is_complete:
            raise UpstreamProtocolError("response headers too large")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            raise UpstreamProtocolError("the endpoint switched protocols unasked") from None
        except HttpParserCallbackError as error:
            raise self._error or error from None
        except HttpParserError as error:
            raise UpstreamProtocolError(_detail(error)) from None
        if self.is_complete and self._method == b"HEAD":
            # llhttp can't be told that a response to HEAD has no body and would wait for it.
            self._parser = HttpResponseParser(self)

    def feed_eof(self) -> bool:
        """The connection has ended: whether that was the proper end of a response."""
        if self._ends_with_connection and not self.is_complete:
            self._complete()
            return True
        return self.is_complete

    def on_message_begin(self) -> None:
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        try:
            self._head_complete()
        except Exception as error:
            self._error = error
            raise

    def _head_complete(self) -> None:
        fields, self._fields = self._fields, []
        if self.is_complete or len(fields) > self._max_fields:
            raise UpstreamProtocolError("a second response" if self.is_complete else "too many response headers")
        if self._quiet_bytes > self._max_bytes and _size(fields) > self._max_bytes:
            raise UpstreamProtocolError("response headers too large")
        parser = self._parser
        status = parser.get_status_code()
        head, body, is_chunked = canonical_response(status, fields, self._method)
        self._is_informational = 100 <= status < 200
        if self._is_informational:
            self._informational += 1
            if status == 101 or self._informational > _MAX_INFORMATIONAL:
                raise UpstreamProtocolError(f"an unexpected response {status}")
            self._consumer.informational_head(head)
            return
        if not 200 <= status <= 599:
            raise UpstreamProtocolError(f"the response has status {status}")
        self._ends_with_connection = body.length is None and not is_chunked
        self._quiet_bytes = 0
        is_kept_alive = parser.should_keep_alive() and not self._ends_with_connection
        self._consumer.response_head(head, body, is_kept_alive)
        if self._method == b"HEAD":
            self._complete()

    def on_body(self, data: bytes) -> None:
        if self.is_complete:
            self._error = UpstreamProtocolError("a body where none may be")
            raise self._error
        self._quiet_bytes = 0
        self._consumer.response_body(data)

    def on_message_complete(self) -> None:
        if not self._is_informational and not self.is_complete:
            self._complete()

    def _complete(self) -> None:
        self.is_complete = True
        self._ends_with_connection = False
        fields, self._fields = self._fields, []
        if len(fields) > self._max_fields:
            self._error = UpstreamProtocolError("too many trailers")
            raise self._error
        self._consumer.response_end(_trailers(fields) if fields else [])


def format_request(head: RequestHead, body: Body) -> bytes:
    line = b"%b %b HTTP/1.1\r\nhost: %b" % (head.method, head.target, head.authority)
    return _format(line, head.headers, body)


def format_response(head: ResponseHead, body: Body, *, closes: bool) -> bytes:
    line = b"HTTP/1.1 %d %b" % (head.status, _REASONS.get(head.status, b""))
    if closes:
        line += b"\r\nconnection: close"
    return _format(line, head.headers, body)


def _format(line: bytes, headers: Headers, body: Body) -> bytes:
    parts = [line, *map(b": ".join, headers)]
    if not body.is_empty:
        if body.length is None:
            parts.append(b"transfer-encoding: chunked")
        else:
            parts.append(b"content-length: %d" % body.length)
    parts.append(b"\r\n")
    return b"\r\n".join(parts)


def format_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def format_last_chunk(trailers: Headers) -> bytes:
    if not trailers:
        return b"0\r\n\r\n"
    return b"\r\n".join([b"0", *map(b": ".join, trailers), b"\r\n"])


def _size(fields: list[Header]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in fields)


def _asks_for_h2c(fields: list[Header]) -> bool:
    return all(value.strip().lower() == b"h2c" for name, value in fields if name.lower() == b"upgrade")


def _trailers(fields: list[Header]) -> Headers:
    lowered = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    return [field for field in lowered if field[0] not in _TRAILERS_ALLOWED_ONLY_IF_NOT]


def _detail(error: HttpParserError) -> str:
    words = "".join(c if c.isalnum() else " " for c in str(error)).lower().split()
    return "http1." + "_".join(words)
