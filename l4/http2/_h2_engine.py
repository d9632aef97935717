"""The reference engine: the h2 library behind the `Connection` interface. Slower; used for comparison, and selectable.

Known differences are listed in `tests/fuzz/differences.md`: it ends the whole connection for one stream too many and
for most errors of a single stream. The rules for heads and the flood guard are the same as in the built-in engine,
which is why the library receives one frame at a time. GOAWAY is hidden from it in both directions: the library treats a
connection as closed at the first GOAWAY, but active streams must continue.
"""

import contextlib
from collections.abc import Iterable

from h2 import events as h2_events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import DenialOfServiceError, H2Error, ProtocolError, StreamClosedError, TooManyStreamsError
from h2.settings import SettingCodes, Settings

from l4.http2 import frames, heads
from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode, StreamUnavailable, error_code
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
from policies.attributes import Headers

_Head = RequestReceived | InformationalReceived | ResponseReceived | TrailersReceived


class H2Engine:
    """Implements `connection.Connection`."""

    def __init__(self, *, is_client: bool, limits: Limits) -> None:
        self._is_client = is_client
        self._limits = limits
        configuration = H2Configuration(client_side=is_client, header_encoding=None, validate_inbound_headers=False)
        self._h2 = H2Connection(configuration)
        self._guard = FloodGuard(
            limits.flood, limits.max_encoded_head, limits.max_concurrent_streams, is_client=is_client
        )
        self._now = 0.0
        initial = {
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window,
            SettingCodes.MAX_FRAME_SIZE: limits.max_frame_size,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_list_size,
        }
        if is_client:
            initial[SettingCodes.ENABLE_PUSH] = 0
        elif limits.allow_connect_protocol:
            initial[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self._h2.local_settings = Settings(client=is_client, initial_values=initial)
        # Initial values take effect without a change event, so the library would not apply these two.
        self._h2.max_inbound_frame_size = limits.max_frame_size
        self._h2.decoder.max_header_list_size = limits.max_encoded_head
        self._out: list[bytes] = []
        self._sending: set[int] = set()  # streams on which we may still send; the library removes them late
        self._left: dict[
            int, int
        ] = {}  # bytes left of announced bodies; the library does not check them when trailers arrive
        self._preface_left = 0 if is_client else len(frames.PREFACE)
        self._buffer = b""
        self._is_in_head = False  # between HEADERS and END_HEADERS, where the library rejects GOAWAY
        self._highest_peer = 0
        self._goaway_last: int | None = None
        self._failed = False

    def start(self) -> None:
        self._h2.initiate_connection()
        if self._limits.connection_window > frames.DEFAULT_WINDOW:
            self._h2.increment_flow_control_window(self._limits.connection_window - frames.DEFAULT_WINDOW)

    def take_output(self) -> bytes:
        self._guard.flushed()
        self._out.append(self._h2.data_to_send())
        data = b"".join(self._out)
        self._out.clear()
        return data

    def open_stream(self, headers: Headers, end_stream: bool) -> int:
        stream_id = int(self._h2.get_next_available_stream_id())
        self._send(stream_id, headers, end_stream)
        self._guard.opened_by_us()
        if not end_stream:
            self._sending.add(stream_id)
        return stream_id

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        self._send(stream_id, headers, end_stream)
        if headers[0][1][:1] != b"1":  # not an informational head
            self._guard.answered(stream_id)

    def _send(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        try:
            self._h2.send_headers(stream_id, headers, end_stream=end_stream)
        except H2Error as error:
            raise StreamUnavailable(f"stream {stream_id}: {error}") from error
        if end_stream:
            self._ended(stream_id)

    def _ended(self, stream_id: int) -> None:
        self._sending.discard(stream_id)
        self._guard.ended_by_us()

    def send_data(self, stream_id: int, data: bytes | memoryview, end_stream: bool) -> int:
        if stream_id not in self._sending:
            raise StreamUnavailable(f"stream {stream_id} no longer accepts data")
        room = self.sendable(stream_id)
        if len(data) > room:
            data, end_stream = data[:room], False
        limit = self._h2.max_outbound_frame_size
        data = bytes(data)
        start = 0
        while len(data) - start > limit:
            self._h2.send_data(stream_id, data[start : start + limit])
            self._guard.data_frames_sent += 1 + limit // frames.DEFAULT_FRAME_SIZE
            start += limit
        if start < len(data) or end_stream:
            self._h2.send_data(stream_id, data[start:], end_stream=end_stream)
            self._guard.data_frames_sent += 1 + (len(data) - start) // frames.DEFAULT_FRAME_SIZE
        if end_stream:
            self._ended(stream_id)
        return len(data)

    def sendable(self, stream_id: int) -> int:
        if stream_id not in self._sending:
            return 0
        return max(0, int(self._h2.local_flow_control_window(stream_id)))

    def consume(self, stream_id: int, flow_length: int) -> None:
        if not self._failed:
            self._h2.acknowledge_received_data(flow_length, stream_id)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        self._guard.answered(stream_id)
        self._left.pop(stream_id, None)
        with contextlib.suppress(StreamClosedError):
            self._h2.reset_stream(stream_id, code)
            self._ended(stream_id)

    def ping(self, payload: bytes) -> None:
        self._h2.ping(payload)

    def goaway(self, code: ErrorCode, *, last_stream_id: int | None = None, debug: bytes = b"") -> None:
        is_client = self._h2.config.client_side
        last = self._highest_peer if last_stream_id is None or is_client else last_stream_id
        self._goaway_last = last
        self._out.append(self._h2.data_to_send())
        self._out.append(frames.goaway_frame(last, code, debug))
        self._failed = self._failed or code is not ErrorCode.NO_ERROR

    @property
    def head_since(self) -> float | None:
        return self._guard.head_since

    @property
    def peer_max_concurrent_streams(self) -> int:
        return int(self._h2.remote_settings.max_concurrent_streams)

    @property
    def peer_allows_connect_protocol(self) -> bool:
        return bool(self._h2.remote_settings.enable_connect_protocol)

    @property
    def peer_stream_count(self) -> int:
        return int(self._h2.open_inbound_streams)

    @property
    def own_stream_count(self) -> int:
        return int(self._h2.open_outbound_streams)

    def receive(self, data: bytes, now: float) -> Iterable[Event]:
        events: list[Event] = []
        if self._failed:
            return events
        self._now = now
        self._out.append(self._h2.data_to_send())
        try:
            for frame, goaway in self._split(data):
                if goaway is not None:
                    events.append(goaway)
                    continue
                for event in self._h2.receive_data(frame):
                    self._translate(event, events)
                self._count_answers()
        except ProtocolError as error:
            # The library has already queued its GOAWAY.
            self._fail(error_code(error.error_code), str(error), _limit_of(error), events)
        except ConnectionFault as fault:
            self.goaway(fault.code, debug=fault.sentence.encode())
            self._fail(fault.code, fault.sentence, fault.reason, events)
        return events

    def _fail(self, code: ErrorCode, sentence: str, reason: str, events: list[Event]) -> None:
        self._failed = True
        events.append(ConnectionFailed(code, sentence, reason))

    def _split(self, data: bytes) -> Iterable[tuple[bytes, GoawayReceived | None]]:
        """Yield whole frames after counting them. GOAWAY frames are parsed and yielded beside them."""
        if self._preface_left:
            preface = data[: self._preface_left]
            self._preface_left -= len(preface)
            yield preface, None
            data = data[len(preface) :]
        data = self._buffer + data
        position = 0
        while len(data) - position >= 9:
            high, low, kind, flags, stream_id = frames.HEAD.unpack_from(data, position)
            after = position + 9 + (high << 8 | low)
            if (high << 8 | low) > max(self._limits.max_frame_size, frames.DEFAULT_FRAME_SIZE):
                # The library reports this only after the whole frame.
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {high << 8 | low} bytes")
            if after > len(data):
                if kind == frames.HEADERS:
                    self._guard.head_begins(self._now)
                break
            payload = data[position + 9 : after]
            self._guard.frame(kind, flags, payload, self._now)
            if kind in (frames.HEADERS, frames.CONTINUATION):
                self._is_in_head = not flags & frames.END_HEADERS
            goaway = None
            if kind == frames.GOAWAY and stream_id == 0 and len(payload) >= 8 and not self._is_in_head:
                last = int.from_bytes(payload[:4]) & 0x7FFFFFFF
                goaway = GoawayReceived(error_code(int.from_bytes(payload[4:8])), last, payload[8:])
            yield data[position:after], goaway
            position = after
        self._buffer = data[position:]

    def _count_answers(self) -> None:
        """Count what a frame made the library queue, since it resets streams without always reporting it."""
        answers = self._h2.data_to_send()
        self._out.append(answers)
        position = 0
        while position < len(answers):
            high, low, kind, _, _ = frames.HEAD.unpack_from(answers, position)
            position += 9 + (high << 8 | low)
            if kind == frames.RST_STREAM:
                self._guard.reset_provoked(self._now)
            if kind in (frames.RST_STREAM, frames.PING, frames.SETTINGS):
                self._guard.queued()

    def _translate(self, event: h2_events.Event, events: list[Event]) -> None:
        match event:
            case h2_events.RequestReceived():
                self._request(event, events)
            case h2_events.InformationalResponseReceived():
                self._check(InformationalReceived(event.stream_id, _headers(event.headers)), events)
            case h2_events.ResponseReceived():
                ended = event.stream_ended is not None
                self._check(ResponseReceived(event.stream_id, _headers(event.headers), ended), events)
            case h2_events.TrailersReceived():
                self._check(TrailersReceived(event.stream_id, _headers(event.headers)), events)
            case h2_events.DataReceived():
                ended = event.stream_ended is not None
                if event.stream_id in self._left:
                    self._left[event.stream_id] -= len(event.data)
                    if ended:
                        del self._left[event.stream_id]
                events.append(DataReceived(event.stream_id, event.data, event.flow_controlled_length, ended))
            case h2_events.StreamReset():
                code = error_code(int(event.error_code))
                self._sending.discard(event.stream_id)
                self._left.pop(event.stream_id, None)
                if event.remote_reset:
                    self._guard.reset_by_peer(event.stream_id, self._now)
                events.append(StreamReset(event.stream_id, code, bool(event.remote_reset)))
            case h2_events.WindowUpdated():
                events.append(WindowOpened(event.stream_id))
            case h2_events.RemoteSettingsChanged():
                events.append(SettingsChanged())
            case h2_events.SettingsAcknowledged():
                events.append(SettingsAcknowledged())
            case h2_events.PingAckReceived():
                events.append(PongReceived(event.ping_data))
            case _:
                pass  # the library acknowledges PING, and also reports priorities and ended streams

    def _request(self, event: h2_events.RequestReceived, events: list[Event]) -> None:
        stream_id, ended = event.stream_id, event.stream_ended is not None
        if self._goaway_last is not None and stream_id > self._goaway_last:
            self._h2.reset_stream(stream_id, ErrorCode.REFUSED_STREAM)
            return
        self._highest_peer = stream_id
        self._guard.opened(stream_id, self._now)
        self._sending.add(stream_id)
        self._check(RequestReceived(stream_id, _headers(event.headers), ended), events)

    def _check(self, head: _Head, events: list[Event]) -> None:
        """Report a head that is valid; reset the stream of one that is not."""
        length: int | None = None
        try:
            heads.check_size(head.headers, self._limits.max_header_list_size, self._limits.max_header_fields)
            match head:
                case RequestReceived():
                    allow = self._limits.allow_connect_protocol
                    length = heads.check_request(head.headers, allow_connect_protocol=allow)
                    if length and head.end_stream:
                        raise heads.MalformedHead("the body is shorter than its content-length")
                case ResponseReceived():
                    status, length = heads.check_response(head.headers)
                    if status in (204, 304) or head.end_stream:
                        length = None
                case InformationalReceived():
                    heads.check_response(head.headers)
                case TrailersReceived():
                    heads.check_trailers(head.headers)
                    if self._left.pop(head.stream_id, 0):
                        raise heads.MalformedHead("the body is shorter than its content-length")
        except heads.MalformedHead as error:
            if self._limits.is_malformed_head_fatal:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, str(error)) from None
            self._refuse(head, StreamReset(head.stream_id, ErrorCode.PROTOCOL_ERROR, False, str(error)), events)
        except heads.HeadTooLarge as error:
            code = ErrorCode.PROTOCOL_ERROR
            if isinstance(head, RequestReceived):
                code = ErrorCode.NO_ERROR
                self._h2.send_headers(head.stream_id, [(b":status", b"431")], end_stream=True)
            self._refuse(head, StreamReset(head.stream_id, code, False, str(error), error.reason), events)
        else:
            if length:
                self._left[head.stream_id] = length
            events.append(head)

    def _refuse(self, head: _Head, refusal: StreamReset, events: list[Event]) -> None:
        self._sending.discard(head.stream_id)
        self._left.pop(head.stream_id, None)
        self._guard.answered(head.stream_id)
        with contextlib.suppress(StreamClosedError):
            self._h2.reset_stream(head.stream_id, refusal.code)
        events.append(refusal)


def _limit_of(error: ProtocolError) -> str:
    match error:
        case TooManyStreamsError():
            return "max_concurrent_streams"
        case DenialOfServiceError():
            return "max_header_list_size"
        case _:
            return ""


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(bytes(name), bytes(value)) for name, value in headers]
