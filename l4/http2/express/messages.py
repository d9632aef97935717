"""Complete heads and their streams (RFC 9113 section 8): requests, responses, informational heads, trailers.

A head that is too large or malformed affects only its stream, unless `Limits.is_malformed_head_fatal`.
"""

from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode, StreamFault
from l4.http2.events import (
    Event,
    InformationalReceived,
    RequestReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from l4.http2.express.head_blocks import Head, HeadBlocks
from l4.http2.express.output import Output
from l4.http2.express.streams import Stream, Streams
from l4.http2.flood import FloodGuard
from l4.http2.heads import HeadTooLarge, MalformedHead, check_request, check_response, check_size, check_trailers


class Messages:
    """Processes the heads of one connection. Raises StreamFault or ConnectionFault for invalid ones."""

    __slots__ = ("_blocks", "_guard", "_is_client", "_limits", "_output", "_streams")

    def __init__(
        self, limits: Limits, is_client: bool, blocks: HeadBlocks, streams: Streams, output: Output, guard: FloodGuard
    ) -> None:
        self._limits = limits
        self._is_client = is_client
        self._blocks = blocks
        self._streams = streams
        self._output = output
        self._guard = guard

    def receive_head(self, now: float, events: list[Event]) -> None:
        """Process the head that `blocks` has completed."""
        blocks = self._blocks
        head = blocks.decode()
        stream_id = blocks.stream_id
        if blocks.depends_on_itself:
            self._streams.saw(stream_id)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "the stream depends on itself")
        try:
            if self._streams.is_own(stream_id):
                self._response(stream_id, head, blocks.end_stream, events)
            else:
                self._request(stream_id, head, blocks.end_stream, now, events)
        except MalformedHead as error:
            if self._limits.is_malformed_head_fatal:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, str(error)) from None
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        except HeadTooLarge as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error), error.reason) from None

    def _request(self, stream_id: int, head: Head, end_stream: bool, now: float, events: list[Event]) -> None:
        if self._is_client:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a server opened stream {stream_id}")
        streams = self._streams
        stream: Stream | None = streams.by_id.get(stream_id)
        if stream is not None:
            self._trailers(stream, head, end_stream, events)
            return
        if stream_id <= streams.highest_peer:
            if stream_id < streams.highest_peer and not streams.was_reset(stream_id):  # RFC 9113 section 5.1.1
                sentence = f"stream {stream_id} is opened after {streams.highest_peer}"
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, sentence)
            streams.check_closed(stream_id, None)
            return
        streams.highest_peer = stream_id
        if streams.last_accepted is not None and stream_id > streams.last_accepted:
            streams.remember_reset(stream_id, True)
            return
        if streams.peer_count >= self._limits.max_concurrent_streams:
            sentence = "too many streams at once"
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, sentence, "max_concurrent_streams")
        if head.checked_by is not check_request:
            try:
                self._check_size(head)
            except HeadTooLarge as error:
                self._refuse(stream_id, end_stream, error, now, events)
                return
            allow = self._limits.allow_connect_protocol
            head.expected = check_request(head.headers, allow_connect_protocol=allow)
            head.checked_by = check_request
        stream = streams.open(stream_id)
        self._guard.opened(stream_id, now)
        stream.expected = head.expected
        stream.has_head = True
        if end_stream:
            streams.close_remote(stream)
        events.append(RequestReceived(stream_id, head.headers, end_stream, head.memo))

    def _refuse(self, stream_id: int, end_stream: bool, error: HeadTooLarge, now: float, events: list[Event]) -> None:
        """Answer 431, which tells the client more than a reset (RFC 9113 section 8.1)."""
        stream = self._streams.open(stream_id)
        stream.remote_closed = end_stream
        self._output.head(stream_id, [(b":status", b"431")], True)
        self._streams.close_local(stream)
        if not end_stream:
            raise StreamFault(stream_id, ErrorCode.NO_ERROR, str(error), error.reason)
        self._guard.reset_provoked(now)
        events.append(StreamReset(stream_id, ErrorCode.NO_ERROR, False, str(error), error.reason))

    def _check_size(self, head: Head) -> None:
        limits = self._limits
        if head.list_size > limits.max_header_list_size or len(head.headers) > limits.max_header_fields:
            check_size(head.headers, limits.max_header_list_size, limits.max_header_fields)

    def _response(self, stream_id: int, head: Head, end_stream: bool, events: list[Event]) -> None:
        streams = self._streams
        stream: Stream | None = streams.by_id.get(stream_id)
        if stream is None or stream.remote_closed:
            if streams.is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a head on idle stream {stream_id}")
            streams.check_closed(stream_id, stream)
            return
        if stream.has_head:
            self._trailers(stream, head, end_stream, events)
            return
        if head.checked_by is not check_response:
            self._check_size(head)
            head.status, head.expected = check_response(head.headers)
            head.checked_by = check_response
        if head.status < 200:
            if end_stream:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "an informational head ends the stream")
            events.append(InformationalReceived(stream_id, head.headers))
            return
        stream.has_head = True
        stream.expected = 0 if stream.is_bodiless or head.status in (204, 304) else head.expected
        if end_stream:
            streams.close_remote(stream)
        events.append(ResponseReceived(stream_id, head.headers, end_stream, head.memo))

    def _trailers(self, stream: Stream, head: Head, end_stream: bool, events: list[Event]) -> None:
        if stream.remote_closed:
            self._streams.check_closed(stream.id, stream)
        if not end_stream:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "a second head that does not end the stream")
        if head.checked_by is not check_trailers:
            self._check_size(head)
            check_trailers(head.headers)
            head.checked_by = check_trailers
        self._streams.close_remote(stream)
        events.append(TrailersReceived(stream.id, head.headers, head.memo))
