"""The contract of an HTTP/2 engine. `tests/l4/http2/test_engines.py` runs it over each implementation.

`Peer` is the other side: it writes raw frames and reads the answers, so that no engine judges itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from l4.http2 import frames
from l4.http2.connection import Connection, Limits
from l4.http2.engines import Engine, connect
from l4.http2.events import Event
from policies.attributes import Headers

CONNECT: Headers = [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")]
GET: Headers = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"reviews")]
OK: Headers = [(b":status", b"200")]
Frame = tuple[int, int, int, bytes]


def split(data: bytes) -> list[Frame]:
    """Frames as (type, flags, stream id, payload)."""
    data = data.removeprefix(frames.PREFACE)
    found: list[Frame] = []
    while data:
        high, low, kind, flags, stream_id = frames.HEAD.unpack_from(data)
        length = high << 8 | low
        found.append((kind, flags, stream_id, data[9 : 9 + length]))
        data = data[9 + length :]
    return found


@dataclass
class Peer:
    """A raw HTTP/2 peer with a connection of the engine under test opposite."""

    connection: Connection
    is_client: bool  # the peer's own role
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)
    now: float = 0.0

    @classmethod
    def client_of(
        cls, engine: Engine, limits: Limits | None = None, *, settings: dict[int, int] | None = None
    ) -> "Peer":
        """A client; the engine is a server whose handshake is done."""
        peer = cls(connect(engine, is_client=False, limits=limits or Limits()), is_client=True)
        peer.connection.start()
        peer.give(frames.PREFACE + frames.settings_frame(settings or {}))
        peer.give(frames.frame(frames.SETTINGS, frames.ACK, 0))
        peer.take()
        return peer

    @classmethod
    def server_of(
        cls, engine: Engine, limits: Limits | None = None, *, settings: dict[int, int] | None = None
    ) -> "Peer":
        peer = cls(connect(engine, is_client=True, limits=limits or Limits()), is_client=False)
        peer.connection.start()
        peer.give(frames.settings_frame(settings or {}))
        peer.give(frames.frame(frames.SETTINGS, frames.ACK, 0))
        peer.take()
        return peer

    def give(self, data: bytes) -> list[Event]:
        return list(self.connection.receive(data, self.now))

    def take(self) -> list[Frame]:
        return split(self.connection.take_output())

    def headers(self, stream_id: int, headers: Headers, *, end_stream: bool = False) -> bytes:
        flags = frames.END_HEADERS | (frames.END_STREAM if end_stream else 0)
        return frames.frame(frames.HEADERS, flags, stream_id, self.encoder.encode(headers))

    def open(self, headers: Headers = CONNECT, *, stream_id: int = 1, end_stream: bool = False) -> list[Event]:
        return self.give(self.headers(stream_id, headers, end_stream=end_stream))


def data(stream_id: int, payload: bytes, *, end_stream: bool = False, padding: int | None = None) -> bytes:
    flags = frames.END_STREAM if end_stream else 0
    if padding is not None:
        payload = bytes([padding]) + payload + bytes(padding)
        flags |= frames.PADDED
    return frames.frame(frames.DATA, flags, stream_id, payload)


def kinds(found: Iterable[Frame]) -> list[int]:
    return [kind for kind, _, _, _ in found]
