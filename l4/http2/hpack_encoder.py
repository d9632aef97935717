"""HPACK encoder (RFC 7541). One per connection.

A field in the peer's table costs one byte in a block. A field is added to the table if its name is new, or if the same
field is sent a second time. Values that never repeat (request ids, deadlines, sizes) thus do not evict useful ones.
Credentials are never added, nor are fields received as never-indexed (section 7.1).

Strings are not Huffman-coded: that would save a quarter of what is written once, and cost more than the rest of a
block.
"""

from l4.http2.hpack_table import DEFAULT_SIZE, FIELD_OVERHEAD, STATIC, STATIC_COUNT, NeverIndexed
from policies.attributes import Header, Headers

_NEVER_INDEXED = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})
_MAX_SEEN = 64
_LARGEST_SHARE = 4  # one field may use a quarter of the table


class Encoder:
    __slots__ = ("_added", "_max_size", "_names", "_order", "_places", "_seen", "_size", "_sizes")

    def __init__(self) -> None:
        self._places: dict[Header, int] = {}  # fields in the peer's table, oldest first, with their numbers
        self._names: dict[bytes, int] = {}  # the number of the last added field by name
        self._added = 0
        self._size = 0
        self._max_size = DEFAULT_SIZE
        self._sizes: list[int] = []  # table sizes that the next block must announce
        # Hashes of fields that were written in full; hashes, so that no secret is kept.
        self._seen: dict[int, None] = {}

    def resize(self, size: int) -> None:
        """Set the size of the peer's table in bytes. The next block announces it (section 4.2)."""
        if size != self._max_size:
            smallest = min(size, self._sizes[0]) if self._sizes else size
            self._sizes = [size] if smallest == size else [smallest, size]
            self._max_size = size
            self._make_room(0)

    def encode(self, headers: Headers) -> bytes:
        codes: list[bytes] = []
        if self._sizes:
            codes += [_integer(size, 0x1F, 0x20) for size in self._sizes]
            self._sizes = []
        places: dict[Header, int] = self._places
        static: dict[Header, bytes] = _STATIC_FIELDS
        for header in headers:
            if type(header) is NeverIndexed:
                self._literal(header, _NEVER_ADDED, codes)
            elif (place := places.get(header)) is not None:
                codes.append(_INDEXED[self._added - place])
            elif (code := static.get(header)) is not None:
                codes.append(code)
            else:
                self._unknown(header, codes)
        return b"".join(codes)

    def _unknown(self, header: Header, codes: list[bytes]) -> None:
        """Encode a field that is in no table, and add it to the peer's table if that is worthwhile."""
        name, value = header
        size = len(name) + len(value) + FIELD_OVERHEAD
        if name in _NEVER_INDEXED:
            self._literal(header, _NEVER_ADDED, codes)
        elif size * _LARGEST_SHARE > self._max_size or not self._is_worth_it(header):
            self._literal(header, _NOT_ADDED, codes)
        else:
            self._literal(header, _ADDED, codes)
            self._make_room(size)
            self._added += 1
            self._size += size
            self._places[header] = self._names[name] = self._added

    def _is_worth_it(self, header: Header) -> bool:
        name = header[0]
        static: dict[bytes, int] = _STATIC_NAMES
        if name not in static and name not in self._names:
            return True
        mark, seen = hash(header), self._seen
        if mark in seen:
            del seen[mark]
            return True
        if len(seen) >= _MAX_SEEN:
            seen.clear()
        seen[mark] = None
        return False

    def _make_room(self, size: int) -> None:
        """Evict the oldest fields, as the peer does before it adds `size` bytes."""
        places, names = self._places, self._names
        while self._size + size > self._max_size:
            oldest = next(iter(places))
            name, value = oldest
            place = places.pop(oldest)
            if names[name] == place:
                del names[name]
            self._size -= len(name) + len(value) + FIELD_OVERHEAD

    def _literal(self, header: Header, kind: list[bytes], codes: list[bytes]) -> None:
        """Encode a field in full. `kind` has the codes of its name by index; that of 0 precedes a name in full."""
        name, value = header
        static: dict[bytes, int] = _STATIC_NAMES
        index = static.get(name)
        if index is None and (place := self._names.get(name)) is not None:
            index = STATIC_COUNT + 1 + self._added - place
        if index is None:
            codes.append(kind[0])
            codes.append(_length(name))
            codes.append(name)
        else:
            codes.append(kind[index])
        codes.append(_length(value))
        codes.append(value)


def _length(text: bytes) -> bytes:
    size = len(text)
    return _LENGTHS[size] if size < 128 else _integer(size, 0x7F, 0)


def _integer(number: int, most: int, start: int) -> bytes:
    """Encode an integer. `most` is the prefix's maximum, `start` the bits before the prefix (section 5.1)."""
    if number < most:
        return _BYTES[start | number]
    code = bytearray([start | most])
    number -= most
    while number >= 0x80:
        code.append(number & 0x7F | 0x80)
        number >>= 7
    code.append(number)
    return bytes(code)


_BYTES = [bytes([number]) for number in range(256)]
_STATIC_FIELDS = {STATIC[index]: _integer(index, 0x7F, 0x80) for index in range(1, STATIC_COUNT + 1)}
_STATIC_NAMES = {STATIC[index][0]: index for index in range(STATIC_COUNT, 0, -1)}
_MOST_FIELDS = DEFAULT_SIZE // FIELD_OVERHEAD  # in the largest table
_INDEXED = [_integer(STATIC_COUNT + 1 + age, 0x7F, 0x80) for age in range(_MOST_FIELDS)]
"""Codes of dynamic table fields, youngest first."""
_LENGTHS = [_integer(size, 0x7F, 0) for size in range(128)]
_ADDED, _NOT_ADDED, _NEVER_ADDED = (
    [_integer(index, most, start) for index in range(STATIC_COUNT + 1 + _MOST_FIELDS)]
    for most, start in ((0x3F, 0x40), (0x0F, 0x00), (0x0F, 0x10))
)
"""Codes of the names of literal fields by index (section 6.2)."""
