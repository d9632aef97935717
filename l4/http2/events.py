"""What happened on an HTTP/2 connection, as either engine tells it.

Headers are lists of (name, value) bytes with the pseudo headers in front, as they came. Treat events as read-only.
"""

from dataclasses import dataclass

from l4.http2.errors import ErrorCode
from policies.attributes import Headers


@dataclass(slots=True)
class RequestReceived:
    stream_id: int
    headers: Headers
    end_stream: bool


@dataclass(slots=True)
class InformationalReceived:
    """A 1xx head in front of the response."""

    stream_id: int
    headers: Headers


@dataclass(slots=True)
class ResponseReceived:
    stream_id: int
    headers: Headers
    end_stream: bool


@dataclass(slots=True)
class TrailersReceived:
    """Trailers always end their stream's receiving side."""

    stream_id: int
    headers: Headers


class DataReceived:
    """`flow_length` is what the frame cost of the windows (its padding included): give it back with `consume`.

    Written out by hand: one is made per frame, and a dataclass with slots costs a quarter more.
    """

    __slots__ = ("data", "end_stream", "flow_length", "stream_id")

    def __init__(self, stream_id: int, data: bytes, flow_length: int, end_stream: bool) -> None:
        self.stream_id = stream_id
        self.data = data
        self.flow_length = flow_length
        self.end_stream = end_stream

    def __repr__(self) -> str:
        return f"DataReceived({self.stream_id}, {self.data!r}, {self.flow_length}, {self.end_stream})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataReceived) and repr(self) == repr(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class StreamReset:
    """The stream is over both ways. `by_peer` is False when the engine reset it because of the peer's mistake; then it
    need not have become a request, and `reason` is the name of the limit that it went beyond, if that was the mistake.
    """

    stream_id: int
    code: ErrorCode
    by_peer: bool
    sentence: str = ""
    reason: str = ""


@dataclass(slots=True)
class WindowOpened:
    """More may be sent on a stream; on all of them when `stream_id` is 0."""

    stream_id: int


@dataclass(slots=True)
class SettingsChanged:
    """The peer's SETTINGS are in force and acknowledged; windows may have moved."""


@dataclass(slots=True)
class SettingsAcknowledged:
    """The peer has taken our SETTINGS."""


@dataclass(slots=True)
class PongReceived:
    payload: bytes


@dataclass(slots=True)
class GoawayReceived:
    """The peer takes no new streams; those of ours above `last_stream_id` were never processed."""

    code: ErrorCode
    last_stream_id: int
    debug: bytes


@dataclass(slots=True)
class ConnectionFailed:
    """The peer broke the protocol: GOAWAY is in the output, nothing further is read. `reason` is a limit's name."""

    code: ErrorCode
    sentence: str
    reason: str = ""


Event = (
    RequestReceived
    | InformationalReceived
    | ResponseReceived
    | TrailersReceived
    | DataReceived
    | StreamReset
    | WindowOpened
    | SettingsChanged
    | SettingsAcknowledged
    | PongReceived
    | GoawayReceived
    | ConnectionFailed
)
