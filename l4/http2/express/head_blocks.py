"""Assemble heads from HEADERS and CONTINUATION frames, and decode them (RFC 9113 section 4.3).

Most heads of a connection repeat an earlier one byte for byte. While HPACK's table does not change, equal bytes have
equal meaning, so the last few heads are cached together with the result of their check.
"""

from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.events import Memo
from l4.http2.frames import END_STREAM, PRIORITY_FLAG, strip_padding
from l4.http2.hpack_decoder import Decoder
from policies.attributes import Headers

_REMEMBERED_HEADS = 8
_MAX_REMEMBERED_BLOCK = 128


class Head:
    """A decoded head. `checked_by` is the check that accepted it; `status` and `expected` are its results.

    `memo` is None until the head comes a second time.
    """

    __slots__ = ("checked_by", "expected", "headers", "list_size", "memo", "status")

    def __init__(self, headers: Headers, list_size: int) -> None:
        self.headers = headers
        self.list_size = list_size
        self.checked_by: object = None
        self.status = 0
        self.expected: int | None = None  # content-length
        self.memo: Memo | None = None


class HeadBlocks:
    """The head being received, and cached heads.

    HPACK's state is shared by all heads of a connection, so each head must be decoded, in order, even if its stream
    fails.
    """

    __slots__ = ("_decoder", "_generation", "_known", "depends_on_itself", "end_stream", "pieces", "stream_id")

    def __init__(self, max_encoded_head: int) -> None:
        self._decoder = Decoder(max_encoded_head)
        self._known: dict[bytes, Head] = {}
        self._generation = 0  # generation of HPACK's table for which `_known` is valid
        self.pieces: list[bytes] | None = None  # of the incomplete head
        self.stream_id = 0  # of the last head, like the attributes below
        self.end_stream = False
        self.depends_on_itself = False

    def begin(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Process a HEADERS frame."""
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on stream 0")
        block = strip_padding(flags, payload)
        self.depends_on_itself = False
        if flags & PRIORITY_FLAG:
            if len(block) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without the priority it announces")
            self.depends_on_itself = int.from_bytes(block[:4]) & 0x7FFFFFFF == stream_id
            block = block[5:]
        self.pieces = [block]
        self.stream_id = stream_id
        self.end_stream = bool(flags & END_STREAM)

    def add(self, payload: bytes) -> None:
        """Process a CONTINUATION frame."""
        if self.pieces is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self.pieces.append(payload)

    def decode(self) -> Head:
        """Decode the complete head."""
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
        elif head.memo is None:
            head.memo = Memo()
        return head
