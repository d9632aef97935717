"""HPACK decoder (RFC 7541). One per connection; it needs whole blocks in the order of their arrival.

Decoding errors end the connection with COMPRESSION_ERROR, because the tables of both sides no longer agree. A list that
exceeds its limit during decoding does so too, which stops a block of few bytes that expands to a gigabyte.

Most blocks repeat an earlier block byte for byte and change no table. While `generation` is unchanged, equal blocks
have equal meaning, so a caller can cache what it derived from a block. Tests compare the decoder with the `hpack`
library, including its errors.
"""

from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.hpack_table import DEFAULT_SIZE, FIELD_OVERHEAD, STATIC, STATIC_COUNT, NeverIndexed
from l4.http2.huffman import decode as decode_huffman
from policies.attributes import Header, Headers

_MAX_SIZE_UPDATES = 32
"""Limit per block. An encoder needs two (section 4.2); the `hpack` library writes every change."""
_MAX_SHIFT = 28
"""Five bytes after the prefix, enough for any index, length or size (section 5.1 leaves the limit to us)."""


class Decoder:
    """`list_size` is the size of the last decoded list, as SETTINGS_MAX_HEADER_LIST_SIZE counts."""

    __slots__ = ("_dynamic", "_max_list_size", "_max_size", "_size", "generation", "list_size")

    def __init__(self, max_list_size: int) -> None:
        self.generation = 0
        self.list_size = 0
        self._max_list_size = max_list_size
        self._dynamic: Headers = []  # oldest field first; the last one has index 62
        self._size = 0
        self._max_size = DEFAULT_SIZE

    def decode(self, block: bytes) -> Headers:
        """Decode a whole block. Raises ConnectionFault."""
        try:
            return self._decode(block)
        except IndexError:
            raise _fault("a block ends within a field") from None

    def _decode(self, block: bytes) -> Headers:
        fields: Headers = []
        dynamic = self._dynamic
        position, end, list_size = self._size_updates(block), len(block), 0
        while position < end:
            byte = block[position]
            position += 1
            if byte & 0x80:
                index = byte & 0x7F
                if index == 0x7F:
                    index, position = _integer(block, position, index)
                if index > STATIC_COUNT and index - STATIC_COUNT <= len(dynamic):
                    field = dynamic[STATIC_COUNT - index]
                else:
                    field = self._field(index)
                name, value = field
            else:
                if byte & 0x40:
                    index, most = byte & 0x3F, 0x3F
                elif byte & 0x20:
                    raise _fault("a table size update follows the first field")
                else:
                    index, most = byte & 0x0F, 0x0F
                if index == most:
                    index, position = _integer(block, position, index)
                if index:
                    name = self._field(index)[0]
                else:
                    name, position = _string(block, position)
                value, position = _string(block, position)
                field = NeverIndexed((name, value)) if byte & 0xF0 == 0x10 else (name, value)
                if byte & 0x40:
                    self._add(field)
            fields.append(field)
            list_size += len(name) + len(value) + FIELD_OVERHEAD
            if list_size > self._max_list_size:
                sentence = "the head exceeds its limit during decoding"
                raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, sentence, "max_header_list_size")
        self.list_size = list_size
        return fields

    def _field(self, index: int) -> Header:
        if 0 < index <= STATIC_COUNT:
            return STATIC[index]
        if not 0 < index - STATIC_COUNT <= len(self._dynamic):
            raise _fault(f"index {index} is in no table")
        return self._dynamic[STATIC_COUNT - index]

    def _add(self, field: Header) -> None:
        self.generation += 1
        size = len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        self._shrink(self._max_size - size)
        if size <= self._max_size:
            self._dynamic.append(field)
            self._size += size

    def _shrink(self, room: int) -> None:
        """Evict the oldest fields until the table needs at most `room` bytes."""
        dynamic = self._dynamic
        while dynamic and self._size > room:
            name, value = dynamic.pop(0)
            self._size -= len(name) + len(value) + FIELD_OVERHEAD

    def _size_updates(self, block: bytes) -> int:
        """Process table size updates. Returns the position of the first field."""
        position = count = 0
        while position < len(block) and block[position] & 0xE0 == 0x20:
            count += 1
            size = block[position] & 0x1F
            position += 1
            if size == 0x1F:
                size, position = _integer(block, position, size)
            if size > DEFAULT_SIZE or count > _MAX_SIZE_UPDATES:
                raise _fault("a table size exceeds SETTINGS" if size > DEFAULT_SIZE else "too many table size updates")
            self.generation += 1
            self._max_size = size
            self._shrink(size)
        return position


def _integer(block: bytes, position: int, number: int) -> tuple[int, int]:
    """Decode an integer whose prefix is full. Returns it and the position after it (section 5.1)."""
    shift = 0
    while True:
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > _MAX_SHIFT:
            raise _fault("an integer has too many bytes")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """Decode a string. Returns it and the position after it (section 5.2)."""
    byte = block[position]
    position += 1
    length = byte & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, length)
    end = position + length
    text = block[position:end]
    if len(text) < length:
        raise _fault("a block ends within a string")
    return (decode_huffman(text) if byte & 0x80 else text), end


def _fault(what: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"HPACK: {what}")
