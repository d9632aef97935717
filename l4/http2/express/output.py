"""The frames that wait to be sent: heads, cut to the size that the peer takes, and answers to its frames.

DATA is the engine's own affair, and is queued here in the same order."""

from l4.http2 import frames
from l4.http2.errors import ErrorCode
from l4.http2.flood import FloodGuard
from l4.http2.hpack_encoder import Encoder
from policies.attributes import Headers


class Output:
    """What one connection sends, in order."""

    __slots__ = ("_guard", "encoder", "max_frame", "waiting")

    def __init__(self, guard: FloodGuard) -> None:
        self._guard = guard
        self.encoder = Encoder()
        self.max_frame = frames.DEFAULT_FRAME_SIZE  # the peer's MAX_FRAME_SIZE
        self.waiting: list[bytes] = []

    def add(self, frame: bytes) -> None:
        """Queue a frame that we send on our own account."""
        self.waiting.append(frame)

    def answer(self, frame: bytes) -> None:
        """Queue a frame that the peer made us send. Their number is bounded, because it may never read them."""
        self._guard.queued()
        self.waiting.append(frame)

    def head(self, stream_id: int, headers: Headers, end_stream: bool) -> None:
        """Queue a head: HEADERS, and CONTINUATION as far as it takes."""
        block = self.encoder.encode(headers)
        flags = frames.END_STREAM if end_stream else 0
        kind, limit = frames.HEADERS, self.max_frame
        while len(block) > limit:
            self.waiting.append(frames.frame(kind, flags, stream_id, block[:limit]))
            kind, flags, block = frames.CONTINUATION, 0, block[limit:]
        self.waiting.append(frames.frame(kind, flags | frames.END_HEADERS, stream_id, block))
        if end_stream:
            self._guard.ended_by_us()

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Queue RST_STREAM that we send on our own account."""
        self._guard.ended_by_us()
        self.waiting.append(frames.rst_stream_frame(stream_id, code))
