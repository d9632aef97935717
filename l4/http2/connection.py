"""The interface of an HTTP/2 connection without I/O (RFC 9113), which every engine implements.

Bytes go in through `receive`, which returns events. Calls that send leave bytes for `take_output`. `engines` creates
connections.

- Flow control is exact. `send_data` sends no more than `sendable` allows. `consume` returns received DATA to the
  window; an engine announces windows to the peer in halves, so that small frames are not answered one by one.
- An engine never awaits and has no clock.
- After `ConnectionFailed`, or after sending GOAWAY with an error, it reads nothing more.
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
    """Limits for the peer. Most are sent as SETTINGS. Sizes are in bytes."""

    max_concurrent_streams: int = 100
    stream_window: int = 65_535
    connection_window: int = 1 << 20
    max_frame_size: int = 16_384
    max_header_list_size: int = 61_440
    max_header_fields: int = 100
    """Maximum number of fields, without pseudo headers."""
    allow_connect_protocol: bool = False
    is_malformed_head_fatal: bool = False
    """Whether a malformed head ends the connection instead of its stream only."""
    flood: FloodLimits = field(default_factory=FloodLimits)

    @property
    def max_encoded_head(self) -> int:
        """Size up to which a head is read and decoded even if it is too large.

        Up to this size only the stream is refused, because HPACK's state stays intact. Beyond it the connection ends.
        """
        return 2 * self.max_header_list_size


class Connection(Protocol):
    """One side of a connection. Stream ids are those on the wire."""

    def start(self) -> None:
        """Queue the preface (client) and our SETTINGS."""

    def receive(self, data: bytes, now: float) -> Iterable[Event]:
        """Process bytes of any length. Returns events in order. `now` is from a monotonic clock, in seconds."""

    def take_output(self) -> bytes:
        """Return all bytes to send now, possibly none."""

    def open_stream(self, headers: Headers, end_stream: bool) -> int:
        """Send a request head. Raises StreamUnavailable if the peer accepts no further stream now."""

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        """Send a response head, an informational head, or trailers (which end the stream)."""

    def send_data(self, stream_id: int, data: bytes | memoryview, end_stream: bool) -> int:
        """Send what the windows allow, in frames of the peer's maximum size. Returns the number of bytes sent.

        END_STREAM goes out only with the last byte. Raises StreamUnavailable if the stream accepts no data.
        """

    def sendable(self, stream_id: int) -> int:
        """Return how many bytes the stream's and connection's windows allow; 0 if the stream has ended."""

    def consume(self, stream_id: int, flow_length: int) -> None:
        """Return `flow_length` bytes of processed DATA to the windows, so that the peer may send more."""

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """End a stream immediately in both directions. Does nothing if it has ended."""

    def ping(self, payload: bytes) -> None:
        """Send a PING with 8 bytes. The answer is a PongReceived event."""

    def goaway(self, code: ErrorCode, *, last_stream_id: int | None = None, debug: bytes = b"") -> None:
        """Tell the peer to open no more streams. By default, names the highest stream it opened.

        A client always names stream 0. Servers open no streams here, and nghttp2, which Envoy uses, ends the connection
        of a client that names a stream with a client's number.
        """

    @property
    def head_since(self) -> float | None:
        """Time at which the currently incomplete head began, by the clock of `receive`, or None."""

    @property
    def peer_max_concurrent_streams(self) -> int: ...

    @property
    def peer_allows_connect_protocol(self) -> bool:
        """Whether the peer announced support for extended CONNECT (RFC 8441)."""

    @property
    def peer_stream_count(self) -> int:
        """Number of open streams that the peer opened."""

    @property
    def own_stream_count(self) -> int:
        """Number of open streams that we opened."""
