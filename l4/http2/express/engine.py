"""The built-in HTTP/2 engine: the part of RFC 9113 that a mesh needs (no push, no priority tree), strict, fast on DATA.

This module is the express lane for DATA. In `_read`, a DATA frame on an open stream costs one struct unpack, one
dictionary lookup, two subtractions and one copy; `send_data` writes to `output` itself. All other received frames go
through the flood guard to `rules`, and complete heads from there to `messages`. `output` sends heads and answers.
`streams`, `windows` and `settings` are shared by both directions.
"""

from collections.abc import Iterable

from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode, StreamUnavailable
from l4.http2.events import ConnectionFailed, DataReceived, Event
from l4.http2.express.head_blocks import HeadBlocks
from l4.http2.express.messages import Messages
from l4.http2.express.output import Output
from l4.http2.express.rules import Rules
from l4.http2.express.settings import PeerSettings, own_settings
from l4.http2.express.streams import Stream, Streams
from l4.http2.express.windows import Windows
from l4.http2.flood import FloodGuard
from l4.http2.frames import (
    DATA,
    HEAD,
    HEADERS,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
    frame,
    goaway_frame,
    settings_frame,
)
from policies.attributes import Headers

_LARGE_PART = 4096


class ExpressEngine:
    """Implements `connection.Connection`."""

    __slots__ = (
        "_blocks",
        "_chunks",
        "_chunks_length",
        "_failed",
        "_guard",
        "_is_client",
        "_limits",
        "_max_frame",
        "_needed",
        "_output",
        "_peer",
        "_preface_left",
        "_rules",
        "_streams",
        "_windows",
    )

    def __init__(self, *, is_client: bool, limits: Limits) -> None:
        self._is_client = is_client
        self._limits = limits
        self._max_frame = limits.max_frame_size
        self._guard = FloodGuard(
            limits.flood, limits.max_encoded_head, limits.max_concurrent_streams, is_client=is_client
        )
        self._output = Output(self._guard)
        self._streams = Streams(is_client)
        self._windows = Windows(limits, self._output)
        self._peer = PeerSettings(self._output, self._streams, is_client)
        self._blocks = HeadBlocks(limits.max_encoded_head)
        messages = Messages(limits, is_client, self._blocks, self._streams, self._output, self._guard)
        self._rules = Rules(
            limits.stream_window,
            self._streams,
            self._windows,
            self._output,
            self._peer,
            self._blocks,
            messages,
            self._guard,
        )
        self._failed = False
        self._preface_left = b"" if is_client else PREFACE
        self._chunks: list[bytes | memoryview] = []  # of an incomplete frame
        self._chunks_length = 0
        self._needed = 0

    # -- what we send ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._is_client:
            self._output.add(PREFACE)
        self._output.add(settings_frame(own_settings(self._limits, self._is_client)))
        self._windows.widen(self._limits.connection_window)

    def take_output(self) -> bytes:
        waiting = self._output.waiting
        if not waiting:
            return b""
        self._guard.flushed()
        data = b"".join(waiting)
        waiting.clear()
        self._output.last_data = 0
        return data

    def open_stream(self, headers: Headers, end_stream: bool) -> int:
        streams = self._streams
        stream_id = streams.next_own
        if self._failed or stream_id > MAX_WINDOW or streams.own_count >= self._peer.max_streams:
            raise StreamUnavailable("the peer accepts no further streams on this connection now")
        streams.next_own += 2
        stream = streams.open(stream_id)
        stream.is_bodiless = _is_head(headers)
        self._guard.opened_by_us()
        self._output.head(stream_id, headers, end_stream)
        if end_stream:
            streams.close_local(stream)
        return stream_id

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        stream = self._streams.writable(stream_id)
        if headers[0][1][:1] != b"1":  # not an informational head
            self._guard.answered(stream_id)
        self._output.head(stream_id, headers, end_stream)
        if end_stream:
            self._streams.close_local(stream)

    def send_data(self, stream_id: int, data: bytes | memoryview, end_stream: bool) -> int:
        stream: Stream | None = self._streams.by_id.get(stream_id)
        if stream is None or stream.local_closed:
            raise StreamUnavailable(f"stream {stream_id} no longer accepts data")
        windows = self._windows
        length = len(data)
        if length and (length > stream.send_window or length > windows.send):
            length = max(0, min(stream.send_window, windows.send))
            end_stream = False
            data = data[:length]
            if not length:
                return 0
        if end_stream and not length and self._output.ends_with_data(stream_id):
            self._output.end_last()
            self._guard.ended_by_us()
            self._streams.close_local(stream)
            return 0
        stream.send_window -= length
        windows.send -= length
        self._guard.data_frames_sent += 1 + (length >> 14)  # 16 KiB: DEFAULT_FRAME_SIZE
        waiting, pack, limit = self._output.waiting, HEAD.pack, self._output.max_frame
        start = 0
        if length > limit:
            view = memoryview(data)
            while length - start > limit:
                waiting.append(pack(limit >> 8, limit & 0xFF, DATA, 0, stream_id))
                waiting.append(view[start : start + limit])
                start += limit
        last = length - start
        waiting.append(pack(last >> 8, last & 0xFF, 0, end_stream, stream_id))
        if last:
            waiting.append(memoryview(data)[start:] if start else data)
            self._output.last_data = len(waiting)
            self._output.last_data_stream = stream_id
        if end_stream:
            self._guard.ended_by_us()
            self._streams.close_local(stream)
        return length

    def sendable(self, stream_id: int) -> int:
        stream: Stream | None = self._streams.by_id.get(stream_id)
        if stream is None or stream.local_closed:
            return 0
        window = stream.send_window
        return max(0, window if window < self._windows.send else self._windows.send)

    def consume(self, stream_id: int, flow_length: int) -> None:
        if not self._failed:
            self._windows.consume(self._streams.by_id.get(stream_id), flow_length)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        stream: Stream | None = self._streams.by_id.get(stream_id)
        if stream is not None:
            self._streams.forget(stream)
            self._guard.answered(stream_id)
            self._streams.remember_reset(stream_id, True)
            self._output.reset(stream_id, code)

    def ping(self, payload: bytes) -> None:
        self._output.add(frame(PING, 0, 0, payload))

    def goaway(self, code: ErrorCode, *, last_stream_id: int | None = None, debug: bytes = b"") -> None:
        last = self._streams.highest_peer if last_stream_id is None or self._is_client else last_stream_id
        self._streams.last_accepted = last
        self._output.add(goaway_frame(last, code, debug))
        if code is not ErrorCode.NO_ERROR:
            self._failed = True

    @property
    def head_since(self) -> float | None:
        return self._guard.head_since

    @property
    def peer_max_concurrent_streams(self) -> int:
        return self._peer.max_streams

    @property
    def peer_allows_connect_protocol(self) -> bool:
        return self._peer.allows_connect_protocol

    @property
    def peer_stream_count(self) -> int:
        return self._streams.peer_count

    @property
    def own_stream_count(self) -> int:
        return self._streams.own_count

    # -- what we receive -------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Iterable[Event]:
        events: list[Event] = []
        if self._failed:
            return events
        try:
            if self._preface_left:
                data = self._read_preface(data)
            start = self._complete(data, now, events) if self._chunks else 0
            if start < len(data):
                self._read(data, start, now, events)
        except ConnectionFault as fault:
            self.goaway(fault.code, debug=fault.sentence.encode())
            self._failed = True
            self._streams.by_id.clear()
            events.append(ConnectionFailed(fault.code, fault.sentence, fault.reason))
        return events

    def _read_preface(self, data: bytes) -> bytes:
        expected = self._preface_left
        if not expected.startswith(data[: len(expected)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with the HTTP/2 preface")
        self._preface_left = expected[len(data) :]
        return data[len(expected) :]

    def _complete(self, data: bytes, now: float, events: list[Event]) -> int:
        """Complete the partially received frame, and no other. Returns the position after it."""
        start = 0
        while self._chunks:
            piece = _part(data, start, min(len(data), start + self._needed - self._chunks_length))
            start += len(piece)
            self._chunks.append(piece)
            self._chunks_length += len(piece)
            if self._chunks_length < self._needed:
                break
            chunks, self._chunks = self._chunks, []
            if self._needed == 9:
                self._read(b"".join(chunks), 0, now, events)
                continue
            head = bytes(chunks[0][:9])
            chunks[0] = chunks[0][9:]
            self._read(head, 0, now, events, b"".join(chunks))
        return start

    def _read(self, data: bytes, position: int, now: float, events: list[Event], joined: bytes | None = None) -> None:
        """Read frames from `position` on; or one, of which `data` is the head and `joined` the payload."""
        end, needed = len(data) if joined is None else 9 + len(joined), 9
        # Express-lane frames are contiguous. Their number and length are counted when another frame arrives or the
        # bytes end. Until then, those of one stream that follow each other become one event, and are copied once.
        express, counted = 0, position
        last: DataReceived | None = None
        parts: list[bytes | memoryview] = []
        guard, streams, windows, blocks = self._guard, self._streams, self._windows, self._blocks
        by_id, unpack = streams.by_id, HEAD.unpack_from
        while end - position >= 9:
            high, low, kind, flags, stream_id = unpack(data, position)
            length = (high << 8) | low
            if length > self._max_frame:
                _merge(last, parts)
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            after = position + 9 + length
            if after > end:
                needed = 9 + length
                break
            if kind == 0 and not flags & PADDED and blocks.pieces is None and (length or flags & 1):
                stream: Stream | None = by_id.get(stream_id)
                if (
                    stream is not None
                    and stream.has_head
                    and not stream.remote_closed
                    and length <= stream.receive_window
                    and length <= windows.receive
                    and (stream.expected is None or stream.expects(length, flags & 1 == 1))
                ):
                    stream.receive_window -= length
                    windows.receive -= length
                    if flags & 1:
                        stream.remote_closed = True
                        if stream.local_closed:
                            streams.forget(stream)
                    express += 1
                    if last is not None and last.stream_id == stream_id:
                        if not parts:
                            parts.append(last.data)
                        parts.append(memoryview(data)[position + 9 : after])
                        last.flow_length += length
                        last.end_stream = flags & 1 == 1
                    else:
                        _merge(last, parts)
                        payload = data[position + 9 : after] if joined is None else joined
                        last = DataReceived(stream_id, payload, length, flags & 1 == 1)
                        events.append(last)
                    position = after
                    continue
            _merge(last, parts)
            last = None
            if express:
                guard.data(express, position - counted - 9 * express, now)
                express = 0
            payload = data[position + 9 : after] if joined is None else joined
            position = after
            guard.frame(kind, flags, payload, now)
            self._rules.receive(kind, flags, stream_id & 0x7FFFFFFF, payload, now, events)
            counted = position
        _merge(last, parts)
        if express:
            guard.data(express, position - counted - 9 * express, now)
        if position < end:
            if needed > 9 and kind == HEADERS:
                guard.head_begins(now)
            self._chunks.append(_part(data, position, end))
            self._chunks_length = end - position
            self._needed = needed


def _merge(event: DataReceived | None, parts: list[bytes | memoryview]) -> None:
    """Give the event the payloads of its frames, if there are several."""
    if parts and event is not None:
        event.data = b"".join(parts)
        parts.clear()


def _part(data: bytes, start: int, end: int) -> bytes | memoryview:
    """Return a part of what was read. A large part is not copied, unless it would keep more than itself in memory."""
    size = end - start
    return memoryview(data)[start:end] if size >= _LARGE_PART and 2 * size >= len(data) else data[start:end]


def _is_head(headers: Headers) -> bool:
    for name, value in headers:
        if name == b":method":
            return bool(value == b"HEAD")
    return False
