"""An HTTP/2 connection without sockets (RFC 9113): what every engine promises.

Bytes go in by `receive`, events come out; calls that send leave bytes for `take_output`. `engines` makes one.

Rules:
- Flow control is exact. `send_data` sends no more than `sendable`; received DATA is given back by `consume`, and
  an engine returns windows to the peer in halves, so that a stream of small frames isn't answered frame by frame.
- An engine never awaits, and knows no clock.
- After `ConnectionFailed`, or a GOAWAY of ours with an error, it reads nothing more.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from l4.http2.errors import ErrorCode
from l4.http2.events import Event
from l4.http2.flood_limits import FloodLimits
from policies.attributes import Headers


@dataclass(frozen=True, slots=True)
class Limits:
    """What we allow the peer; most of it is sent as SETTINGS. Sizes in bytes."""

    max_concurrent_streams: int = 100
    stream_window: int = 65_535
    connection_window: int = 1 << 20
    max_frame_size: int = 16_384
    max_header_list_size: int = 61_440
    max_header_fields: int = 100
    """Without the pseudo headers."""
    allow_connect_protocol: bool = False
    is_malformed_head_fatal: bool = False
    """Whether a malformed head ends the connection, or its stream only."""
    flood: FloodLimits = field(default_factory=FloodLimits)

    @property
    def max_encoded_head(self) -> int:
        """How far a head that is too large is read and decoded all the same: then only its stream is refused, because
        HPACK's state is whole. Beyond it the connection ends."""
        return 2 * self.max_header_list_size


class Connection(Protocol):
    """One side of one connection. Stream ids are the wire's."""

    def start(self) -> None:
        """Queue the preface (client) and our SETTINGS."""

    def receive(self, data: bytes, now: float) -> Iterable[Event]:
        """Take bytes of any length from the peer; events in the order in which they happened. `now` is any clock that
        never goes back, in seconds."""

    def take_output(self) -> bytes:
        """All bytes that are to be sent by now; empty when there are none."""

    def open_stream(self, headers: Headers, end_stream: bool) -> int:
        """Send a request's head. Raises StreamUnavailable when the peer takes no further stream now."""

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        """Send a response's head, an informational one, or trailers (which end the stream)."""

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> int:
        """Send what the windows let through, in as many frames as the peer's limit asks for; how much that was.
        END_STREAM goes out with the last byte only. Raises StreamUnavailable when the stream takes no data."""

    def sendable(self, stream_id: int) -> int:
        """How many bytes the windows of stream and connection let us send; 0 when the stream has ended."""

    def consume(self, stream_id: int, flow_length: int) -> None:
        """The application has dealt with this much received DATA: the peer may send as much again."""

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream at once, both ways; does nothing when it has ended."""

    def ping(self, payload: bytes) -> None:
        """Send a PING of exactly 8 bytes; the answer is a PongReceived."""

    def goaway(self, code: ErrorCode, *, last_stream_id: int | None = None, debug: bytes = b"") -> None:
        """Tell the peer to open no more streams; by default names the highest one it opened."""

    @property
    def head_since(self) -> float | None:
        """When the head of a message began that is not whole yet, by the clock of `receive`; None without one."""

    @property
    def peer_max_concurrent_streams(self) -> int: ...

    @property
    def peer_allows_connect_protocol(self) -> bool:
        """Whether the peer takes an extended CONNECT (RFC 8441); it has to say so before it is sent one."""

    @property
    def peer_stream_count(self) -> int:
        """Streams that the peer opened and that have not ended."""

    @property
    def own_stream_count(self) -> int:
        """Streams that we opened and that have not ended."""
