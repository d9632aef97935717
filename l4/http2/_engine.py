"""Our HTTP/2 engine: what a mesh needs of RFC 9113 and no more (no push, no priority tree), strict, and quick on DATA.

The express lane is in `_read`: a DATA frame on an open stream costs one struct unpack, one dictionary look-up, two
subtractions and one slice. All other frames go through the flood guard, and then `_dispatch`, where there is time for
every rule.

Two kinds of mistake are told apart. `StreamFault`: HPACK and framing are whole, so only the stream is reset and its
neighbours on a shared connection go on. `ConnectionFault`: they are not, or the RFC asks for it; GOAWAY and the end.
"""

from collections import OrderedDict
from collections.abc import Iterable

from l4.http2 import frames, heads
from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode, StreamFault, StreamUnavailable, error_code
from l4.http2.events import (
    ConnectionFailed,
    DataReceived,
    Event,
    GoawayReceived,
    InformationalReceived,
    PongReceived,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    SettingsChanged,
    StreamReset,
    TrailersReceived,
    WindowOpened,
)
from l4.http2.flood import FloodGuard
from l4.http2.hpack_decoder import Decoder
from l4.http2.hpack_encoder import Encoder
from l4.http2.hpack_table import DEFAULT_SIZE
from policies.attributes import Headers

_REMEMBERED_RESETS = 1000
_REMEMBERED_HEADS = 8
_MAX_REMEMBERED_BLOCK = 128


class _Stream:
    __slots__ = (
        "expected",
        "has_head",
        "id",
        "is_bodiless",
        "local_closed",
        "receive_window",
        "received",
        "remote_closed",
        "send_window",
        "unreturned",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.unreturned = 0  # consumed, but not yet given back to the peer
        self.local_closed = False
        self.remote_closed = False
        self.has_head = False  # the peer's final head has come
        self.is_bodiless = False  # a response to HEAD
        self.expected: int | None = None  # content-length
        self.received = 0


class _Head:
    """A head that was decoded, which check has found it in order, and what that gave. Most heads of a connection are,
    byte for byte, one that came before: while no table changes, they mean the same."""

    __slots__ = ("checked_by", "expected", "headers", "list_size", "status")

    def __init__(self, headers: Headers, list_size: int) -> None:
        self.headers = headers
        self.list_size = list_size
        self.checked_by: object = None
        self.status = 0
        self.expected: int | None = None


class ExpressEngine:
    """Implements `connection.Connection`."""

    __slots__ = (
        "_block",
        "_block_depends_on_itself",
        "_block_flags",
        "_block_stream",
        "_chunks",
        "_chunks_length",
        "_connection_half",
        "_counts",
        "_decoder",
        "_encoder",
        "_failed",
        "_goaway_last",
        "_guard",
        "_highest_peer",
        "_initial_receive_window",
        "_initial_send_window",
        "_is_client",
        "_known",
        "_known_generation",
        "_limits",
        "_needed",
        "_next_own",
        "_now",
        "_out",
        "_peer_allows_connect_protocol",
        "_peer_max_frame",
        "_peer_max_streams",
        "_preface_left",
        "_receive_window",
        "_resets",
        "_send_window",
        "_settings_seen",
        "_stream_half",
        "_streams",
        "_unreturned",
    )

    def __init__(self, *, is_client: bool, limits: Limits) -> None:
        self._is_client = is_client
        self._limits = limits
        self._encoder = Encoder()
        self._decoder = Decoder(limits.max_encoded_head)
        self._known: dict[bytes, _Head] = {}
        self._known_generation = 0
        self._guard = FloodGuard(limits.flood, limits.max_encoded_head, limits.max_concurrent_streams)
        self._now = 0.0  # when the bytes came that are being read
        self._streams: dict[int, _Stream] = {}
        self._resets: OrderedDict[int, bool] = OrderedDict()  # stream id → whether it was us
        self._next_own = 1 if is_client else 2
        self._highest_peer = 0
        self._counts = [0, 0]  # open streams by parity of their id
        self._goaway_last: int | None = None
        self._failed = False
        self._stream_half = (limits.stream_window + 1) // 2
        self._connection_half = (max(limits.connection_window, frames.DEFAULT_WINDOW) + 1) // 2

        self._preface_left = b"" if is_client else frames.PREFACE
        self._settings_seen = False
        self._chunks: list[bytes] = []
        self._chunks_length = 0
        self._needed = 0
        self._block: list[bytes] | None = None
        self._block_stream = 0
        self._block_flags = 0
        self._block_depends_on_itself = False

        self._out: list[bytes] = []
        self._send_window = frames.DEFAULT_WINDOW
        self._receive_window = frames.DEFAULT_WINDOW
        self._unreturned = 0
        self._initial_send_window = frames.DEFAULT_WINDOW
        self._initial_receive_window = frames.DEFAULT_WINDOW  # until the peer acknowledges our SETTINGS
        self._peer_max_frame = frames.DEFAULT_FRAME_SIZE
        self._peer_max_streams = 2**31 - 1
        self._peer_allows_connect_protocol = False

    # -- what we send ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        limits = self._limits
        if self._is_client:
            self._out.append(frames.PREFACE)
        values = {
            frames.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
            frames.INITIAL_WINDOW_SIZE: limits.stream_window,
            frames.MAX_FRAME_SIZE: limits.max_frame_size,
            frames.MAX_HEADER_LIST_SIZE: limits.max_header_list_size,
        }
        if self._is_client:
            values[frames.ENABLE_PUSH] = 0
        elif limits.allow_connect_protocol:
            values[frames.ENABLE_CONNECT_PROTOCOL] = 1
        self._out.append(frames.settings_frame(values))
        if limits.connection_window > frames.DEFAULT_WINDOW:
            increment = limits.connection_window - frames.DEFAULT_WINDOW
            self._receive_window += increment
            self._out.append(frames.window_update_frame(0, increment))

    def take_output(self) -> bytes:
        out = self._out
        if not out:
            return b""
        self._guard.flushed()
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def open_stream(self, headers: Headers, end_stream: bool) -> int:
        stream_id = self._next_own
        if self._failed or stream_id > frames.MAX_WINDOW or self.own_stream_count >= self._peer_max_streams:
            raise StreamUnavailable("the peer takes no further stream on this connection now")
        self._next_own += 2
        stream = self._add_stream(stream_id)
        stream.is_bodiless = (b":method", b"HEAD") in headers
        self._guard.opened_by_us()
        self._write_headers(stream, headers, end_stream)
        return stream_id

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        stream = self._writable(stream_id)
        if headers[0][1][:1] != b"1":  # no informational one
            self._guard.answered(stream_id)
        self._write_headers(stream, headers, end_stream)

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is None or stream.local_closed:
            raise StreamUnavailable(f"stream {stream_id} no longer takes data")
        length = len(data)
        if length and (length > stream.send_window or length > self._send_window):
            length = max(0, min(stream.send_window, self._send_window))
            end_stream = False
            data = data[:length]
            if not length:
                return 0
        stream.send_window -= length
        self._send_window -= length
        self._guard.data_frames_sent += 1 + (length >> 14)  # 16 KiB: frames.DEFAULT_FRAME_SIZE
        out, pack, limit = self._out, frames.HEAD.pack, self._peer_max_frame
        start = 0
        while length - start > limit:
            out.append(pack(limit >> 8, limit & 0xFF, frames.DATA, 0, stream_id))
            out.append(data[start : start + limit])
            start += limit
        last = length - start
        out.append(pack(last >> 8, last & 0xFF, 0, end_stream, stream_id))
        if last:
            out.append(data[start:] if start else data)
        if end_stream:
            self._close_local(stream)
        return length

    def sendable(self, stream_id: int) -> int:
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is None or stream.local_closed:
            return 0
        window = stream.send_window
        return max(0, window if window < self._send_window else self._send_window)

    def consume(self, stream_id: int, flow_length: int) -> None:
        if self._failed:
            return
        self._unreturned += flow_length
        if self._unreturned >= self._connection_half:
            self._out.append(frames.window_update_frame(0, self._unreturned))
            self._receive_window += self._unreturned
            self._unreturned = 0
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is not None and not stream.remote_closed:
            stream.unreturned += flow_length
            if stream.unreturned >= self._stream_half:
                self._out.append(frames.window_update_frame(stream_id, stream.unreturned))
                stream.receive_window += stream.unreturned
                stream.unreturned = 0

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is not None:
            self._reset(stream)
            self._guard.ended_by_us()
            self._out.append(frames.rst_stream_frame(stream_id, code))

    def ping(self, payload: bytes) -> None:
        self._out.append(frames.frame(frames.PING, 0, 0, payload))

    def goaway(self, code: ErrorCode, *, last_stream_id: int | None = None, debug: bytes = b"") -> None:
        last = self._highest_peer if last_stream_id is None else last_stream_id
        self._goaway_last = last
        self._out.append(frames.goaway_frame(last, code, debug))
        if code is not ErrorCode.NO_ERROR:
            self._failed = True

    @property
    def head_since(self) -> float | None:
        return self._guard.head_since

    @property
    def peer_max_concurrent_streams(self) -> int:
        return self._peer_max_streams

    @property
    def peer_allows_connect_protocol(self) -> bool:
        return self._peer_allows_connect_protocol

    @property
    def peer_stream_count(self) -> int:
        return self._counts[0 if self._is_client else 1]

    @property
    def own_stream_count(self) -> int:
        return self._counts[1 if self._is_client else 0]

    def _write_headers(self, stream: _Stream, headers: Headers, end_stream: bool) -> None:
        block = self._encoder.encode(headers)
        flags = frames.END_STREAM if end_stream else 0
        kind, limit = frames.HEADERS, self._peer_max_frame
        while len(block) > limit:
            self._out.append(frames.frame(kind, flags, stream.id, block[:limit]))
            kind, flags, block = frames.CONTINUATION, 0, block[limit:]
        self._out.append(frames.frame(kind, flags | frames.END_HEADERS, stream.id, block))
        if end_stream:
            self._close_local(stream)

    def _control(self, data: bytes) -> None:
        """Queue an answer that the peer made us give: bounded, because it may never read them."""
        self._guard.queued()
        self._out.append(data)

    # -- streams ---------------------------------------------------------------------------------------------------

    def _add_stream(self, stream_id: int) -> _Stream:
        stream = _Stream(stream_id, self._initial_send_window, self._initial_receive_window)
        self._streams[stream_id] = stream
        self._counts[stream_id & 1] += 1
        return stream

    def _writable(self, stream_id: int) -> _Stream:
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is None or stream.local_closed:
            raise StreamUnavailable(f"stream {stream_id} has ended")
        return stream

    def _close_local(self, stream: _Stream) -> None:
        stream.local_closed = True
        self._guard.ended_by_us()
        if stream.remote_closed:
            self._forget(stream)

    def _close_remote(self, stream: _Stream) -> None:
        if stream.expected is not None and stream.received != stream.expected:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "the body is shorter than its content-length")
        stream.remote_closed = True
        if stream.local_closed:
            self._forget(stream)

    def _forget(self, stream: _Stream) -> None:
        if self._streams.pop(stream.id, None) is not None:
            self._counts[stream.id & 1] -= 1

    def _reset(self, stream: _Stream) -> None:
        self._forget(stream)
        self._guard.answered(stream.id)
        self._remember_reset(stream.id)

    def _reset_provoked(self, fault: StreamFault, events: list[Event]) -> None:
        self._guard.reset_provoked(self._now)
        stream: _Stream | None = self._streams.get(fault.stream_id)
        if stream is None:
            self._remember_reset(fault.stream_id)
        else:
            self._reset(stream)
        self._control(frames.rst_stream_frame(fault.stream_id, fault.code))
        events.append(StreamReset(fault.stream_id, fault.code, False, fault.sentence, fault.reason))

    def _remember_reset(self, stream_id: int, *, by_us: bool = True) -> None:
        self._resets[stream_id] = by_us
        if len(self._resets) > _REMEMBERED_RESETS:
            self._resets.popitem(last=False)

    def _is_own(self, stream_id: int) -> bool:
        return bool(stream_id & 1) == self._is_client

    def _is_idle(self, stream_id: int) -> bool:
        return stream_id >= self._next_own if self._is_own(stream_id) else stream_id > self._highest_peer

    # -- what we receive -------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> Iterable[Event]:
        events: list[Event] = []
        if self._failed:
            return events
        self._now = now
        try:
            if self._preface_left:
                data = self._read_preface(data)
            start = self._complete(data, events) if self._chunks else 0
            if start < len(data):
                self._read(data, start, events)
        except ConnectionFault as fault:
            self.goaway(fault.code, debug=fault.sentence.encode())
            self._failed = True
            self._streams.clear()
            events.append(ConnectionFailed(fault.code, fault.sentence, fault.reason))
        return events

    def _read_preface(self, data: bytes) -> bytes:
        expected = self._preface_left
        if not expected.startswith(data[: len(expected)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with HTTP/2's preface")
        self._preface_left = expected[len(data) :]
        return data[len(expected) :]

    def _complete(self, data: bytes, events: list[Event]) -> int:
        """Read the frame that has begun with what is missing of it, and nothing else; where what follows begins."""
        start = 0
        while self._chunks:
            piece = data[start : start + self._needed - self._chunks_length]
            start += len(piece)
            self._chunks.append(piece)
            self._chunks_length += len(piece)
            if self._chunks_length < self._needed:
                break
            frame = b"".join(self._chunks)
            self._chunks.clear()
            self._read(frame, 0, events)
        return start

    def _read(self, data: bytes, position: int, events: list[Event]) -> None:
        end, needed = len(data), 9
        # A frame of the express lane gives one event, and they follow each other without a gap: how many they were, and
        # how long, is counted when another frame comes or the bytes end.
        told, counted = len(events), position
        guard, streams = self._guard, self._streams
        unpack = frames.HEAD.unpack_from
        while end - position >= 9:
            high, low, kind, flags, stream_id = unpack(data, position)
            length = (high << 8) | low
            if length > self._limits.max_frame_size:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            after = position + 9 + length
            if after > end:
                needed = 9 + length
                break
            payload = data[position + 9 : after]
            if kind == 0 and not flags & frames.PADDED and self._block is None and (length or flags & 1):
                stream: _Stream | None = streams.get(stream_id)
                if (
                    stream is not None
                    and stream.expected is None
                    and stream.has_head
                    and not stream.remote_closed
                    and length <= stream.receive_window
                    and length <= self._receive_window
                ):
                    stream.receive_window -= length
                    self._receive_window -= length
                    if flags & 1:
                        stream.remote_closed = True
                        if stream.local_closed:
                            self._forget(stream)
                    events.append(DataReceived(stream_id, payload, length, flags & 1 == 1))
                    position = after
                    continue
            if express := len(events) - told:
                guard.data(express, position - counted - 9 * express, self._now)
            position = after
            guard.frame(kind, flags, payload, self._now)
            try:
                self._dispatch(kind, flags, stream_id & 0x7FFFFFFF, payload, events)
            except StreamFault as fault:
                self._reset_provoked(fault, events)
            told, counted = len(events), position
        if express := len(events) - told:
            guard.data(express, position - counted - 9 * express, self._now)
        if position < end:
            if needed > 9 and kind == frames.HEADERS:
                guard.head_begins(self._now)
            self._chunks.append(data[position:])
            self._chunks_length = end - position
            self._needed = needed

    def _dispatch(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a head is interrupted by another frame")
        if not self._settings_seen and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        match kind:
            case frames.DATA:
                self._data(flags, stream_id, payload, events)
            case frames.HEADERS:
                self._headers(flags, stream_id, payload, events)
            case frames.PRIORITY:
                self._priority(stream_id, payload)
            case frames.RST_STREAM:
                self._rst_stream(stream_id, payload, events)
            case frames.SETTINGS:
                self._settings(flags, stream_id, payload, events)
            case frames.PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, though push is not enabled")
            case frames.PING:
                self._ping(flags, stream_id, payload, events)
            case frames.GOAWAY:
                self._goaway(stream_id, payload, events)
            case frames.WINDOW_UPDATE:
                self._window_update(stream_id, payload, events)
            case frames.CONTINUATION:
                self._continuation(flags, payload, events)
            case _:
                pass  # unknown frames are ignored: RFC 9113 section 5.5

    def _data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id == 0 or self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which was not opened")
        length = len(payload)
        if length > self._receive_window:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        self._receive_window -= length
        data = frames.strip_padding(flags, payload)
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is None or stream.remote_closed:
            self.consume(0, length)
            self._check_closed(stream_id, stream)
            return
        if length > stream.receive_window:
            self.consume(0, length)
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the stream's window")
        stream.receive_window -= length
        stream.received += len(data)
        if not stream.has_head or (stream.expected is not None and stream.received > stream.expected):
            self.consume(0, length)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "DATA before the head or beyond content-length")
        end_stream = bool(flags & frames.END_STREAM)
        if end_stream:
            try:
                self._close_remote(stream)
            except StreamFault:
                self.consume(0, length)
                raise
        events.append(DataReceived(stream_id, data, length, end_stream))

    def _check_closed(self, stream_id: int, stream: _Stream | None) -> None:
        """A frame on a stream whose receiving side has ended: forgiven only where it crossed our RST_STREAM."""
        by_us = self._resets.get(stream_id)
        if stream is not None or by_us is False:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "a frame after END_STREAM or RST_STREAM")
        if by_us is None:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"a frame on stream {stream_id}, which has ended")

    def _headers(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        block = frames.strip_padding(flags, payload)
        self._block_depends_on_itself = False
        if flags & frames.PRIORITY_FLAG:
            if len(block) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority it announces")
            self._block_depends_on_itself = int.from_bytes(block[:4]) & 0x7FFFFFFF == stream_id
            block = block[5:]
        self._block = [block]
        self._block_stream = stream_id
        self._block_flags = flags
        if flags & frames.END_HEADERS:
            self._head_complete(events)

    def _continuation(self, flags: int, payload: bytes, events: list[Event]) -> None:
        if self._block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        if flags & frames.END_HEADERS:
            self._head_complete(events)

    def _head_complete(self, events: list[Event]) -> None:
        assert self._block is not None
        block, self._block = b"".join(self._block), None
        head = self._decode(block)
        stream_id = self._block_stream
        end_stream = bool(self._block_flags & frames.END_STREAM)
        if self._block_depends_on_itself:
            if not self._is_own(stream_id):
                self._highest_peer = max(self._highest_peer, stream_id)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "the stream depends on itself")
        try:
            if self._is_own(stream_id):
                self._response_head(stream_id, head, end_stream, events)
            else:
                self._request_head(stream_id, head, end_stream, events)
        except heads.MalformedHead as error:
            if self._limits.is_malformed_head_fatal:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, str(error)) from None
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        except heads.HeadTooLarge as error:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(error), error.reason) from None

    def _decode(self, block: bytes) -> _Head:
        decoder, known = self._decoder, self._known
        if decoder.generation != self._known_generation:
            known.clear()
            self._known_generation = decoder.generation
        head: _Head | None = known.get(block)
        if head is None:
            head = _Head(decoder.decode(block), decoder.list_size)
            if decoder.generation == self._known_generation and len(block) <= _MAX_REMEMBERED_BLOCK:
                if len(known) >= _REMEMBERED_HEADS:
                    known.clear()
                known[block] = head
        return head

    def _request_head(self, stream_id: int, head: _Head, end_stream: bool, events: list[Event]) -> None:
        if self._is_client:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a server opened stream {stream_id}")
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is not None:
            self._trailers(stream, head, end_stream, events)
            return
        if stream_id <= self._highest_peer:
            if stream_id < self._highest_peer and stream_id not in self._resets:  # RFC 9113 section 5.1.1
                sentence = f"stream {stream_id} is opened after {self._highest_peer}"
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, sentence)
            self._check_closed(stream_id, None)
            return
        self._highest_peer = stream_id
        if self._goaway_last is not None and stream_id > self._goaway_last:
            self._remember_reset(stream_id)
            return
        if self.peer_stream_count >= self._limits.max_concurrent_streams:
            sentence = "too many streams at once"
            raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, sentence, "max_concurrent_streams")
        if head.checked_by is not heads.check_request:
            try:
                self._check_size(head)
            except heads.HeadTooLarge as error:
                self._refuse_head(stream_id, end_stream, error, events)
                return
            allow = self._limits.allow_connect_protocol
            head.expected = heads.check_request(head.headers, allow_connect_protocol=allow)
            head.checked_by = heads.check_request
        stream = self._add_stream(stream_id)
        self._guard.opened(stream_id, self._now)
        stream.expected = head.expected
        stream.has_head = True
        if end_stream:
            self._close_remote(stream)
        events.append(RequestReceived(stream_id, head.headers, end_stream))

    def _refuse_head(self, stream_id: int, end_stream: bool, error: heads.HeadTooLarge, events: list[Event]) -> None:
        """431 tells the client more than a reset would; RFC 9113 section 8.1 has the rest."""
        stream = self._add_stream(stream_id)
        stream.remote_closed = end_stream
        self._write_headers(stream, [(b":status", b"431")], True)
        if not end_stream:
            raise StreamFault(stream_id, ErrorCode.NO_ERROR, str(error), error.reason)
        self._guard.reset_provoked(self._now)
        events.append(StreamReset(stream_id, ErrorCode.NO_ERROR, False, str(error), error.reason))

    def _check_size(self, head: _Head) -> None:
        limits = self._limits
        if head.list_size > limits.max_header_list_size or len(head.headers) > limits.max_header_fields:
            heads.check_size(head.headers, limits.max_header_list_size, limits.max_header_fields)

    def _response_head(self, stream_id: int, head: _Head, end_stream: bool, events: list[Event]) -> None:
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is None or stream.remote_closed:
            if self._is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a head on idle stream {stream_id}")
            self._check_closed(stream_id, stream)
            return
        if stream.has_head:
            self._trailers(stream, head, end_stream, events)
            return
        if head.checked_by is not heads.check_response:
            self._check_size(head)
            head.status, head.expected = heads.check_response(head.headers)
            head.checked_by = heads.check_response
        if head.status < 200:
            if end_stream:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "an informational head ends the stream")
            events.append(InformationalReceived(stream_id, head.headers))
            return
        stream.has_head = True
        stream.expected = 0 if stream.is_bodiless or head.status in (204, 304) else head.expected
        if end_stream:
            self._close_remote(stream)
        events.append(ResponseReceived(stream_id, head.headers, end_stream))

    def _trailers(self, stream: _Stream, head: _Head, end_stream: bool, events: list[Event]) -> None:
        if stream.remote_closed:
            self._check_closed(stream.id, stream)
        if not end_stream:
            raise StreamFault(stream.id, ErrorCode.PROTOCOL_ERROR, "a second head that does not end the stream")
        if head.checked_by is not heads.check_trailers:
            self._check_size(head)
            heads.check_trailers(head.headers)
            head.checked_by = heads.check_trailers
        self._close_remote(stream)
        events.append(TrailersReceived(stream.id, head.headers))

    def _priority(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not 5 bytes long")
        if int.from_bytes(payload[:4]) & 0x7FFFFFFF == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "the stream depends on itself")

    def _rst_stream(self, stream_id: int, payload: bytes, events: list[Event]) -> None:
        code = error_code(frames.parse_long(payload, "RST_STREAM"))
        if stream_id == 0 or self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}, which was not opened")
        stream: _Stream | None = self._streams.get(stream_id)
        if stream is not None:
            self._guard.reset_by_peer(stream_id, self._now)
            self._forget(stream)
            self._remember_reset(stream_id, by_us=False)
            events.append(StreamReset(stream_id, code, True))

    def _settings(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a payload")
            self._own_settings_in_force()
            events.append(SettingsAcknowledged())
            return
        for key, value in frames.parse_settings(payload):
            self._apply_setting(key, value)
        self._settings_seen = True
        self._control(frames.frame(frames.SETTINGS, frames.ACK, 0))
        events.append(SettingsChanged())

    def _own_settings_in_force(self) -> None:
        difference = self._limits.stream_window - self._initial_receive_window
        self._initial_receive_window += difference
        for stream in self._streams.values():
            stream.receive_window += difference

    def _apply_setting(self, key: int, value: int) -> None:
        match key:
            case frames.HEADER_TABLE_SIZE:
                self._encoder.resize(min(value, DEFAULT_SIZE))
            case frames.ENABLE_PUSH if value > 1 or (self._is_client and value):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
            case frames.MAX_CONCURRENT_STREAMS:
                self._peer_max_streams = value
            case frames.INITIAL_WINDOW_SIZE:
                self._resize_send_windows(value)
            case frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_SIZE <= value < 1 << 24:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE is {value}")
                self._peer_max_frame = value
            case frames.ENABLE_CONNECT_PROTOCOL:
                if value > 1 or value < self._peer_allows_connect_protocol:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_CONNECT_PROTOCOL is {value}")
                self._peer_allows_connect_protocol = bool(value)

    def _resize_send_windows(self, value: int) -> None:
        if value > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE is {value}")
        difference = value - self._initial_send_window
        self._initial_send_window = value
        for stream in self._streams.values():
            stream.send_window += difference
            if stream.send_window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window overflows")

    def _ping(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is not 8 bytes long")
        if flags & frames.ACK:
            events.append(PongReceived(payload))
        else:
            self._control(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _goaway(self, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is shorter than 8 bytes")
        last = int.from_bytes(payload[:4]) & 0x7FFFFFFF
        events.append(GoawayReceived(error_code(int.from_bytes(payload[4:8])), last, payload[8:]))

    def _window_update(self, stream_id: int, payload: bytes, events: list[Event]) -> None:
        increment = frames.parse_long(payload, "WINDOW_UPDATE") & 0x7FFFFFFF
        if stream_id == 0:
            self._send_window += increment
            if increment == 0 or self._send_window > frames.MAX_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR
                raise ConnectionFault(code, f"WINDOW_UPDATE of the connection by {increment}")
        else:
            if self._is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE on idle stream {stream_id}")
            if increment == 0:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of the stream by 0")
            stream: _Stream | None = self._streams.get(stream_id)
            if stream is None:
                return
            stream.send_window += increment
            if stream.send_window > frames.MAX_WINDOW:
                raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")
        events.append(WindowOpened(stream_id))
