"""Parse HTTP/1.1 responses, without I/O (RFC 9112), one at a time.

As in `h1_request`, llhttp parses heads and chunks, and `hygiene` builds the head. Bytes after a response and before the
next request are an error. The reader calls its consumer as parts arrive, and raises the endpoint's errors. An ordinary
head that comes a second time is kept as a `KnownHead`: the same bytes are not parsed a third time.
"""

from dataclasses import dataclass
from typing import Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from policies.attributes import Header, Headers, RepeatedHeaders, ResponseHead
from waypoint.errors import UpstreamProtocolError
from waypoint.http.events import OPAQUE, Body
from waypoint.http.framing import MAX_KNOWN_HEAD, ChunkScanner, HeadCutter
from waypoint.http.hygiene import canonical_response
from waypoint.http.llhttp import END_OF_HEAD, error_name
from waypoint.http.settings import HttpSettings
from waypoint.http.trailers import response_trailers

_H = 0x48


class ResponseConsumer(Protocol):
    def informational_head(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body, is_kept_alive: bool) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers) -> None: ...


@dataclass(slots=True)
class KnownHead:
    """A head after which the connection stays open, and the body of known length after it. Not of a response to HEAD or
    to an upgrade, whose body depends on the request."""

    data: bytes
    status: int
    repeated: RepeatedHeaders
    body: Body
    length: int  # of the body


class ResponseReader:
    """Parses the responses of one connection. Call `expect` before each."""

    __slots__ = (
        "_chunks",
        "_consumer",
        "_data",
        "_ends_with_connection",
        "_error",
        "_field_count",
        "_fields",
        "_following",
        "_head",
        "_informational",
        "_is_ended",
        "_is_informational",
        "_is_ordinary",
        "_is_parsed",
        "_known",
        "_last",
        "_left",
        "_max_head_bytes",
        "_method",
        "_parser",
        "_settings",
        "_upgrade",
        "has_begun",
        "is_complete",
    )

    def __init__(self, consumer: ResponseConsumer, settings: HttpSettings) -> None:
        self._consumer = consumer
        self._settings = settings
        self._max_head_bytes = settings.head_bytes
        self._parser = HttpResponseParser(self)
        self._known: KnownHead | None = None
        self._last = b""  # the last ordinary head
        self._head = HeadCutter(settings.head_bytes)
        self._chunks: ChunkScanner | None = None  # of the current body
        self._left = 0  # bytes left of the current body, if its length is known
        self._ends_with_connection = False
        self._method = self._upgrade = b""
        self._fields: list[Header] = []
        self._field_count = 0
        self._data = b""  # the data with the end of the head
        self._following = 0  # number of bytes after it
        self._informational = 0
        self._is_informational = False
        self._is_ordinary = True  # the response's body does not depend on the request
        self._is_parsed = False  # llhttp has seen the end, or nothing of the response
        self._is_ended = False  # nothing more may follow
        self._error: Exception | None = None
        self.is_complete = True
        self.has_begun = False

    def release(self) -> None:
        """Release references to objects that refer to this reader, because there is nothing more to read."""
        del self._parser, self._consumer, self._error

    def expect(self, method: bytes, upgrade: bytes = b"") -> None:
        """Expect the response to a request with this method, which may have asked for an upgrade."""
        self._method = method
        self._upgrade = upgrade
        self._is_ordinary = method != b"HEAD" and not upgrade
        self._informational = 0
        self._is_parsed = self._is_ended = False
        self.is_complete = False
        self.has_begun = False

    def feed(self, data: bytes) -> None:
        """Process bytes from the endpoint. Raises UpstreamProtocolError."""
        if self.is_complete:
            raise UpstreamProtocolError("received data without a request")
        is_first, self.has_begun = not self.has_begun, True
        known: KnownHead | None = self._known
        if known is not None and is_first and self._is_ordinary and data.startswith(known.data):
            self._repeat(known, data[len(known.data) :])
            data = b""
        while data:
            if self._left:
                data = self._feed_body(data)
            elif self._chunks is not None:
                self._scan(self._chunks, data, 0)
                self._parse(data)
                data = b""
            elif self._ends_with_connection:
                self._consumer.response_body(data)
                data = b""
            else:
                data = self._feed_head(data)
        if self._is_ended:
            self._complete()

    def _repeat(self, known: KnownHead, data: bytes) -> None:
        """The endpoint sends the known head again, and `data` after it."""
        self._left = known.length - len(data)
        if self._left < 0:
            raise UpstreamProtocolError("received data after the response")
        self._is_parsed = True
        self._is_ended = not self._left
        head = ResponseHead(known.status, known.repeated.headers.copy(), known.repeated)
        self._consumer.response_head(head, known.body, True)
        if data:
            self._consumer.response_body(data)

    def _feed_head(self, data: bytes) -> bytes:
        """Process up to the end of an informational head, else everything: what follows a head is its body or
        an error."""
        head = self._head
        if not head.raw and data[0] != _H:  # llhttp would skip empty lines
            raise UpstreamProtocolError("the response does not begin with HTTP")
        end = data.find(END_OF_HEAD) + 4
        if head.raw or not 4 <= end <= self._max_head_bytes:
            end = len(head.cut(data))
        else:  # by far the most frequent case
            head.raw = data
            head.size = end
            head.is_complete = True
        rest = b""
        if head.is_complete and not head.is_too_large:
            self._data = data
            self._following = len(data) - end
            if head.raw[9:10] == b"1":
                data, rest = data[:end], data[end:]
        else:
            data = data[:end]
        self._parse(data)
        if head.is_too_large:
            raise UpstreamProtocolError("response headers too large", limit="head_bytes")
        if head.is_complete:
            self._data = head.raw = b""
        return rest

    def _feed_body(self, data: bytes) -> bytes:
        if len(data) > self._left:
            raise UpstreamProtocolError("received data after the response")
        self._left -= len(data)
        self._is_ended = not self._left
        self._consumer.response_body(data)
        return b""

    def _scan(self, chunks: ChunkScanner, data: bytes, start: int) -> None:
        if chunks.scan(data, start) == len(data):
            return
        if chunks.exceeded:
            raise UpstreamProtocolError(f"the chunks exceed {chunks.exceeded}", limit=chunks.exceeded)
        raise UpstreamProtocolError("received data after the response")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # as requested; `_switched` has handled it
        except HttpParserCallbackError as error:
            raise self._error or error from None
        except HttpParserError as error:
            raise UpstreamProtocolError(error_name(error)) from None

    def feed_eof(self) -> bool:
        """The connection has ended. Returns whether the response was complete."""
        if self._ends_with_connection and not self.is_complete:
            self._complete()
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
        self._field_count = len(fields)
        if len(fields) > self._settings.head_fields:
            raise UpstreamProtocolError("too many response headers", limit="head_fields")
        raw = self._head.raw
        if not raw.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
            raise UpstreamProtocolError("the response's version is neither HTTP/1.1 nor HTTP/1.0")
        parser = self._parser
        status = parser.get_status_code()
        head, body, is_chunked = canonical_response(status, fields, self._method)
        if is_chunked and raw.startswith(b"HTTP/1.0"):
            raise UpstreamProtocolError("transfer-encoding in HTTP/1.0")
        if status >= 200:
            self._is_informational = False
            if body.length is None:
                self._begin_open_body(is_chunked)
            elif self._following > body.length:
                raise UpstreamProtocolError("received data after the response")
            else:
                self._left = body.length
                self._is_ended = not body.length
            is_kept_alive = not self._ends_with_connection and parser.should_keep_alive()
            if self._is_ordinary and is_kept_alive and not parser.should_upgrade():
                self._note(head, body)
            self._consumer.response_head(head, body, is_kept_alive)
            return
        self._is_informational = True
        if status == 101:
            self._switched(head, fields)
        else:
            self._informational += 1
            most = self._settings.informational_responses
            if self._informational > most:
                raise UpstreamProtocolError(f"more than {most} 1xx responses", limit="informational_responses")
            self._consumer.informational_head(head)

    def _note(self, head: ResponseHead, body: Body) -> None:
        """Keep an ordinary head that comes a second time. Nobody has changed `head` yet."""
        raw, size = self._head.raw, self._head.size
        if body.length is not None and size <= MAX_KNOWN_HEAD and isinstance(raw, bytes):
            data = raw[:size]
            if data == self._last:
                self._known = KnownHead(data, head.status, RepeatedHeaders(head.headers.copy()), body, body.length)
            self._last = data

    def _begin_open_body(self, is_chunked: bool) -> None:
        """Begin a body whose end is not known in advance."""
        if not is_chunked:
            self._ends_with_connection = True
            return
        budget = self._settings.head_bytes - self._head.size
        self._chunks = ChunkScanner(self._settings.chunk_extension_bytes, budget)
        if self._following:
            self._scan(self._chunks, self._data, len(self._data) - self._following)

    def _switched(self, head: ResponseHead, fields: list[Header]) -> None:
        if not self._upgrade:
            raise UpstreamProtocolError("the endpoint switched protocols without being asked")
        if [value.lower() for name, value in fields if name.lower() == b"upgrade"] != [self._upgrade]:
            raise UpstreamProtocolError("the endpoint switched to another protocol than requested")
        self._ends_with_connection = True
        self._consumer.response_head(head, OPAQUE, False)

    def on_body(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        self._consumer.response_body(data)

    def on_message_complete(self) -> None:
        if not self._is_informational:
            self._is_parsed = self._is_ended = True

    def _complete(self) -> None:
        """Report the end of the response, after checking that nothing follows it."""
        self.is_complete = True
        self._ends_with_connection = False
        self._chunks = None
        if not self._is_parsed:  # llhttp did not see the body, or expects one (HEAD)
            self._parser = HttpResponseParser(self)
        fields = self._fields
        if not fields:
            self._consumer.response_end([])
            return
        self._fields = []
        if self._field_count + len(fields) > self._settings.head_fields:
            raise UpstreamProtocolError("too many trailers", limit="head_fields")
        self._consumer.response_end(response_trailers(fields))
