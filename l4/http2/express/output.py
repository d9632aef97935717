"""Frames waiting to be sent: heads, split to the peer's maximum frame size, and answers to the peer's frames.

The engine formats DATA itself, and queues it here in the same order.
"""

from l4.http2.errors import ErrorCode
from l4.http2.flood import FloodGuard
from l4.http2.frames import (
    CONTINUATION,
    DEFAULT_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    frame,
    rst_stream_frame,
)
from l4.http2.hpack_encoder import Encoder
from policies.attributes import Headers

_END_STREAM = bytes([END_STREAM])
_pack = HEAD.pack


class Output:
    """Outgoing frames of one connection, in order."""

    __slots__ = ("_guard", "encoder", "last_data", "last_data_stream", "max_frame", "waiting")

    def __init__(self, guard: FloodGuard) -> None:
        self._guard = guard
        self.encoder = Encoder()
        self.max_frame = DEFAULT_FRAME_SIZE  # the peer's MAX_FRAME_SIZE
        self.waiting: list[bytes | memoryview] = []
        self.last_data = 0  # how many pieces were waiting with the last non-empty DATA frame, which has two
        self.last_data_stream = 0

    def add(self, frame: bytes) -> None:
        """Queue a frame that the peer did not cause."""
        self.waiting.append(frame)

    def answer(self, frame: bytes) -> None:
        """Queue a frame that the peer caused. Their number is bounded, because the peer may never read them."""
        self._guard.queued()
        self.waiting.append(frame)

    def head(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        """Queue a head: HEADERS, followed by CONTINUATION as needed."""
        block = self.encoder.encode(headers)
        flags = END_STREAM if end_stream else 0
        kind, limit = HEADERS, self.max_frame
        while len(block) > limit:
            self.waiting.append(frame(kind, flags, stream_id, block[:limit]))
            kind, flags, block = CONTINUATION, 0, block[limit:]
        size = len(block)
        self.waiting.append(_pack(size >> 8, size & 0xFF, kind, flags | END_HEADERS, stream_id))
        self.waiting.append(block)
        if end_stream:
            self._guard.ended_by_us()

    def ends_with_data(self, stream_id: int) -> bool:
        """Whether the last frame that is waiting is non-empty DATA of this stream."""
        return self.last_data_stream == stream_id and self.last_data == len(self.waiting) > 0

    def end_last(self) -> None:
        """Let that frame end its stream, which saves an empty frame."""
        head = bytes(self.waiting[-2])
        self.waiting[-2] = head[:4] + _END_STREAM + head[5:]

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Queue a RST_STREAM that the peer did not cause."""
        self._guard.ended_by_us()
        self.waiting.append(rst_stream_frame(stream_id, code))
