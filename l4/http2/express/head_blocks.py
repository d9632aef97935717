"""Heads as they arrive (RFC 9113 section 4.3): HEADERS and CONTINUATION put together, and decoded.

Most heads of a connection are, byte for byte, one that came before. While HPACK's table does not change, the same bytes
mean the same head, so that the last few are remembered together with what their check found.
"""

from l4.http2 import frames
from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.hpack_decoder import Decoder
from policies.attributes import Headers

_REMEMBERED_HEADS = 8
_MAX_REMEMBERED_BLOCK = 128


class Head:
    """A decoded head. `checked_by` is the check that has found it in order; `status` and `expected` are its result."""

    __slots__ = ("checked_by", "expected", "headers", "list_size", "status")

    def __init__(self, headers: Headers, list_size: int) -> None:
        self.headers = headers
        self.list_size = list_size
        self.checked_by: object = None
        self.status = 0
        self.expected: int | None = None  # content-length


class HeadBlocks:
    """The head that is being received, and those that are remembered. HPACK's state concerns all heads of a connection:
    each must be decoded, in order, whatever becomes of it."""

    __slots__ = ("_decoder", "_generation", "_known", "depends_on_itself", "end_stream", "pieces", "stream_id")

    def __init__(self, max_encoded_head: int) -> None:
        self._decoder = Decoder(max_encoded_head)
        self._known: dict[bytes, Head] = {}
        self._generation = 0  # of HPACK's table, for which `_known` holds
        self.pieces: list[bytes] | None = None  # of the head that is not whole yet
        self.stream_id = 0  # of the last head, as all that follows
        self.end_stream = False
        self.depends_on_itself = False

    def begin(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Take a HEADERS frame."""
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        block = frames.strip_padding(flags, payload)
        self.depends_on_itself = False
        if flags & frames.PRIORITY_FLAG:
            if len(block) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority it announces")
            self.depends_on_itself = int.from_bytes(block[:4]) & 0x7FFFFFFF == stream_id
            block = block[5:]
        self.pieces = [block]
        self.stream_id = stream_id
        self.end_stream = bool(flags & frames.END_STREAM)

    def add(self, payload: bytes) -> None:
        """Take a CONTINUATION frame."""
        if self.pieces is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self.pieces.append(payload)

    def decode(self) -> Head:
        """The head, now that it is whole."""
        assert self.pieces is not None
        block, self.pieces = b"".join(self.pieces), None
        decoder, known = self._decoder, self._known
        if decoder.generation != self._generation:
            known.clear()
            self._generation = decoder.generation
        head: Head | None = known.get(block)
        if head is None:
            head = Head(decoder.decode(block), decoder.list_size)
            if decoder.generation == self._generation and len(block) <= _MAX_REMEMBERED_BLOCK:
                if len(known) >= _REMEMBERED_HEADS:
                    known.clear()
                known[block] = head
        return head
