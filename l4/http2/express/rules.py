"""Process received frames (RFC 9113 section 6), except the DATA frames that the express lane of `engine` handles.

There are two kinds of protocol errors. `StreamFault`: HPACK and framing are intact, so only the stream is reset, and
the other streams of a shared connection continue. `ConnectionFault`: they are not intact, or the RFC demands it; the
connection ends.
"""

from l4.http2.errors import ConnectionFault, ErrorCode, StreamFault, error_code
from l4.http2.events import (
    DataReceived,
    Event,
    GoawayReceived,
    PongReceived,
    SettingsAcknowledged,
    SettingsChanged,
    StreamReset,
    WindowOpened,
)
from l4.http2.express.head_blocks import HeadBlocks
from l4.http2.express.messages import Messages
from l4.http2.express.output import Output
from l4.http2.express.settings import PeerSettings
from l4.http2.express.streams import Stream, Streams
from l4.http2.express.windows import Windows
from l4.http2.flood import FloodGuard
from l4.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    parse_long,
    rst_stream_frame,
    strip_padding,
)


class Rules:
    """Processes the received frames of one connection, in order."""

    __slots__ = (
        "_blocks",
        "_guard",
        "_messages",
        "_output",
        "_own_stream_window",
        "_peer",
        "_streams",
        "_windows",
    )

    def __init__(
        self,
        own_stream_window: int,
        streams: Streams,
        windows: Windows,
        output: Output,
        peer: PeerSettings,
        blocks: HeadBlocks,
        messages: Messages,
        guard: FloodGuard,
    ) -> None:
        self._own_stream_window = own_stream_window
        self._streams = streams
        self._windows = windows
        self._output = output
        self._peer = peer
        self._blocks = blocks
        self._messages = messages
        self._guard = guard

    def receive(self, kind: int, flags: int, stream_id: int, payload: bytes, now: float, events: list[Event]) -> None:
        """Process a frame. An error of one stream resets that stream. Raises ConnectionFault."""
        if self._blocks.pieces is not None and (kind != CONTINUATION or stream_id != self._blocks.stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a head is interrupted by another frame")
        if not self._peer.are_known and (kind != SETTINGS or flags & ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        try:
            if kind == HEADERS:
                self._blocks.begin(flags, stream_id, payload)
                if flags & END_HEADERS:
                    self._messages.receive_head(now, events)
            elif kind == WINDOW_UPDATE:
                self._window_update(stream_id, payload, events)
            elif kind == DATA:
                self._data(flags, stream_id, payload, events)
            elif kind == RST_STREAM:
                self._rst_stream(stream_id, payload, now, events)
            elif kind == CONTINUATION:
                self._blocks.add(payload)
                if flags & END_HEADERS:
                    self._messages.receive_head(now, events)
            elif kind == SETTINGS:
                self._settings(flags, stream_id, payload, events)
            elif kind == PING:
                self._ping(flags, stream_id, payload, events)
            elif kind == GOAWAY:
                self._goaway(stream_id, payload, events)
            elif kind == PRIORITY:
                self._priority(stream_id, payload)
            elif kind == PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, though push is not enabled")
            # Unknown frames are ignored: RFC 9113 section 5.5.
        except StreamFault as fault:
            self._reset(fault, now, events)

    def _reset(self, fault: StreamFault, now: float, events: list[Event]) -> None:
        self._guard.reset_provoked(now)
        stream: Stream | None = self._streams.by_id.get(fault.stream_id)
        if stream is not None:
            self._streams.forget(stream)
            self._guard.answered(fault.stream_id)
        self._streams.remember_reset(fault.stream_id, True)
        self._output.answer(rst_stream_frame(fault.stream_id, fault.code))
        events.append(StreamReset(fault.stream_id, fault.code, False, fault.sentence, fault.reason))

    def _data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        streams, windows = self._streams, self._windows
        if stream_id == 0 or streams.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which was not opened")
        length = len(payload)
        if length > windows.receive:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the connection's window")
        windows.receive -= length
        data = strip_padding(flags, payload)
        stream: Stream | None = streams.by_id.get(stream_id)
        if stream is None or stream.remote_closed:
            windows.consume(None, length)
            streams.check_closed(stream_id, stream)
            return
        if length > stream.receive_window:
            windows.consume(None, length)
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the stream's window")
        stream.receive_window -= length
        stream.received += len(data)
        if not stream.has_head or (stream.expected is not None and stream.received > stream.expected):
            windows.consume(None, length)
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "DATA before the head or beyond content-length")
        end_stream = bool(flags & END_STREAM)
        if end_stream:
            try:
                streams.close_remote(stream)
            except StreamFault:
                windows.consume(None, length)
                raise
        events.append(DataReceived(stream_id, data, length, end_stream))

    def _priority(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not 5 bytes long")
        if int.from_bytes(payload[:4]) & 0x7FFFFFFF == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "the stream depends on itself")

    def _rst_stream(self, stream_id: int, payload: bytes, now: float, events: list[Event]) -> None:
        code = error_code(parse_long(payload, "RST_STREAM"))
        streams = self._streams
        if stream_id == 0 or streams.is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}, which was not opened")
        stream: Stream | None = streams.by_id.get(stream_id)
        if stream is not None:
            self._guard.reset_by_peer(stream_id, now)
            streams.forget(stream)
            streams.remember_reset(stream_id, False)
            events.append(StreamReset(stream_id, code, True))

    def _settings(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a payload")
            self._streams.resize_receive_windows(self._own_stream_window)
            events.append(SettingsAcknowledged())
            return
        self._peer.apply(payload)
        self._output.answer(frame(SETTINGS, ACK, 0))
        events.append(SettingsChanged())

    def _ping(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING is not 8 bytes long")
        if flags & ACK:
            events.append(PongReceived(payload))
        else:
            self._output.answer(frame(PING, ACK, 0, payload))

    def _goaway(self, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is shorter than 8 bytes")
        last = int.from_bytes(payload[:4]) & 0x7FFFFFFF
        events.append(GoawayReceived(error_code(int.from_bytes(payload[4:8])), last, payload[8:]))

    def _window_update(self, stream_id: int, payload: bytes, events: list[Event]) -> None:
        increment = parse_long(payload, "WINDOW_UPDATE") & 0x7FFFFFFF
        if stream_id == 0:
            self._windows.open_connection(increment)
        else:
            if self._streams.is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE on idle stream {stream_id}")
            if increment == 0:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of the stream by 0")
            stream: Stream | None = self._streams.by_id.get(stream_id)
            if stream is None:
                return
            stream.send_window += increment
            if stream.send_window > MAX_WINDOW:
                raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "the stream's window overflows")
        events.append(WindowOpened(stream_id))
