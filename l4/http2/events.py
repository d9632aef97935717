"""Events of an HTTP/2 connection, the same for both engines.

Headers are lists of (name, value) bytes in wire order, pseudo headers first. Treat events as read-only.
"""

from dataclasses import dataclass, field

from l4.http2.errors import ErrorCode
from policies.attributes import Headers


class Memo:
    """Keeps what the receiver has made of a head for when the same head comes again."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: object = None


@dataclass(slots=True)
class RequestReceived:
    stream_id: int
    headers: Headers
    end_stream: bool
    memo: Memo | None = field(default=None, repr=False, compare=False)
    """The head's, if the same one came before and may come again."""


@dataclass(slots=True)
class InformationalReceived:
    """A 1xx head before the response."""

    stream_id: int
    headers: Headers


@dataclass(slots=True)
class ResponseReceived:
    stream_id: int
    headers: Headers
    end_stream: bool
    memo: Memo | None = field(default=None, repr=False, compare=False)
    """As that of a request."""


@dataclass(slots=True)
class TrailersReceived:
    """Trailers. They always end the stream's receiving side."""

    stream_id: int
    headers: Headers
    memo: Memo | None = field(default=None, repr=False, compare=False)
    """As that of a request."""


class DataReceived:
    """One or more DATA frames that followed each other. `flow_length` is what they used of the windows, padding
    included; return it with `consume`.

    Not a dataclass, because one with slots takes a quarter more time to create.
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
    """The stream has ended in both directions.

    If `by_peer` is False, the engine reset it because of the peer's error. The stream may then not have become a
    request, and `reason` is the name of the exceeded limit, if any.
    """

    stream_id: int
    code: ErrorCode
    by_peer: bool
    sentence: str = ""
    reason: str = ""


@dataclass(slots=True)
class WindowOpened:
    """More data may be sent on a stream, or on all streams if `stream_id` is 0."""

    stream_id: int


@dataclass(slots=True)
class SettingsChanged:
    """The peer's SETTINGS were applied and acknowledged. Windows may have changed."""


@dataclass(slots=True)
class SettingsAcknowledged:
    """The peer acknowledged our SETTINGS."""


@dataclass(slots=True)
class PongReceived:
    payload: bytes


@dataclass(slots=True)
class GoawayReceived:
    """The peer accepts no new streams. It never processed our streams above `last_stream_id`."""

    code: ErrorCode
    last_stream_id: int
    debug: bytes


@dataclass(slots=True)
class ConnectionFailed:
    """The peer violated the protocol. GOAWAY is in the output, and nothing more is read.

    `reason` is the name of the exceeded limit, if any.
    """

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
