"""Reads header blocks (RFC 7541): one decoder per connection, fed with whole blocks in the order in which they came.

What the RFC calls a decoding error ends the connection with COMPRESSION_ERROR, because the tables of both sides no
longer agree; so does a list that grows beyond its limit while it is being decoded, which is where a block of a few
bytes that stands for a gigabyte stops.

Most blocks of a connection repeat, byte for byte, what an earlier one said, and change no table: `generation` tells
how long a block means the same, so that its reader may remember what it made of it. The `hpack` library is the
reference: tests hold the two together, byte for byte and mistake for mistake.
"""

from l4.http2 import huffman
from l4.http2.errors import ConnectionFault, ErrorCode
from l4.http2.hpack_table import DEFAULT_SIZE, FIELD_OVERHEAD, STATIC, STATIC_COUNT, NeverIndexed
from policies.attributes import Header, Headers

_MAX_SIZE_UPDATES = 32
"""In front of one block. An encoder needs two (section 4.2); the library that is our reference writes all it made."""
_MAX_SHIFT = 28
"""Five bytes after the prefix: no index, length or size needs more (section 5.1 leaves the limit to us)."""


class Decoder:
    """`list_size` is that of the list decoded last, as SETTINGS_MAX_HEADER_LIST_SIZE counts it."""

    __slots__ = ("_dynamic", "_max_list_size", "_max_size", "_size", "generation", "list_size")

    def __init__(self, max_list_size: int) -> None:
        self.generation = 0
        self.list_size = 0
        self._max_list_size = max_list_size
        self._dynamic: Headers = []  # the oldest field first: index 62 is the last one
        self._size = 0
        self._max_size = DEFAULT_SIZE

    def decode(self, block: bytes) -> Headers:
        """The fields of a whole block. Raises ConnectionFault."""
        try:
            return self._decode(block)
        except IndexError:
            raise _fault("a block that ends within a field") from None

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
                    raise _fault("a table size after the first field")
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
                sentence = "a head too large to be decoded to its end"
                raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, sentence, "max_header_list_size")
        self.list_size = list_size
        return fields

    def _field(self, index: int) -> Header:
        if 0 < index <= STATIC_COUNT:
            return STATIC[index]
        if not 0 < index - STATIC_COUNT <= len(self._dynamic):
            raise _fault(f"the index {index}, which no table has")
        return self._dynamic[STATIC_COUNT - index]

    def _add(self, field: Header) -> None:
        self.generation += 1
        size = len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        self._shrink(self._max_size - size)
        if size <= self._max_size:
            self._dynamic.append(field)
            self._size += size

    def _shrink(self, room: int) -> None:
        """Let the oldest fields go until the others need no more than this."""
        dynamic = self._dynamic
        while dynamic and self._size > room:
            name, value = dynamic.pop(0)
            self._size -= len(name) + len(value) + FIELD_OVERHEAD

    def _size_updates(self, block: bytes) -> int:
        """Where the first field begins."""
        position = count = 0
        while position < len(block) and block[position] & 0xE0 == 0x20:
            count += 1
            size = block[position] & 0x1F
            position += 1
            if size == 0x1F:
                size, position = _integer(block, position, size)
            if size > DEFAULT_SIZE or count > _MAX_SIZE_UPDATES:
                raise _fault("a table larger than SETTINGS allow" if size > DEFAULT_SIZE else "too many table sizes")
            self.generation += 1
            self._max_size = size
            self._shrink(size)
        return position


def _integer(block: bytes, position: int, number: int) -> tuple[int, int]:
    """An integer whose prefix is full, and where it ends (section 5.1)."""
    shift = 0
    while True:
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > _MAX_SHIFT:
            raise _fault("an integer of too many bytes")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """A string, and where it ends (section 5.2)."""
    byte = block[position]
    position += 1
    length = byte & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, length)
    end = position + length
    text = block[position:end]
    if len(text) < length:
        raise _fault("a block that ends within a string")
    return (huffman.decode(text) if byte & 0x80 else text), end


def _fault(what: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"HPACK: {what}")
