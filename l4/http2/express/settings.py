"""SETTINGS (RFC 9113 section 6.5): those that we send, and the effect of the peer's on what we send."""

from l4.http2 import frames
from l4.http2.connection import Limits
from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.express.output import Output
from l4.http2.express.streams import Streams
from l4.http2.hpack_table import DEFAULT_SIZE


def own_settings(limits: Limits, is_client: bool) -> dict[int, int]:
    """Return the settings to send at the start."""
    values = {
        frames.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
        frames.INITIAL_WINDOW_SIZE: limits.stream_window,
        frames.MAX_FRAME_SIZE: limits.max_frame_size,
        frames.MAX_HEADER_LIST_SIZE: limits.max_header_list_size,
    }
    if is_client:
        values[frames.ENABLE_PUSH] = 0
    elif limits.allow_connect_protocol:
        values[frames.ENABLE_CONNECT_PROTOCOL] = 1
    return values


class PeerSettings:
    """The peer's settings, with the RFC's defaults for those not received."""

    __slots__ = ("_is_client", "_output", "_streams", "allows_connect_protocol", "are_known", "max_streams")

    def __init__(self, output: Output, streams: Streams, is_client: bool) -> None:
        self._is_client = is_client
        self._output = output
        self._streams = streams
        self.are_known = False
        self.max_streams = 2**31 - 1
        self.allows_connect_protocol = False

    def apply(self, payload: bytes) -> None:
        """Apply the payload of a SETTINGS frame. Raises ConnectionFault."""
        for key, value in frames.parse_settings(payload):
            self._apply_one(key, value)
        self.are_known = True

    def _apply_one(self, key: int, value: int) -> None:
        match key:
            case frames.HEADER_TABLE_SIZE:
                self._output.encoder.resize(min(value, DEFAULT_SIZE))
            case frames.ENABLE_PUSH if value > 1 or (self._is_client and value):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
            case frames.MAX_CONCURRENT_STREAMS:
                self.max_streams = value
            case frames.INITIAL_WINDOW_SIZE:
                self._streams.resize_send_windows(value)
            case frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_SIZE <= value < 1 << 24:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE is {value}")
                self._output.max_frame = value
            case frames.ENABLE_CONNECT_PROTOCOL:
                if value > 1 or value < self.allows_connect_protocol:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_CONNECT_PROTOCOL is {value}")
                self.allows_connect_protocol = bool(value)
