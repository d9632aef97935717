"""Consistent hashing with a lookup table: Maglev, filled as in Envoy.

Each member walks through the table in its own order and takes the next free slot, in turns by weight. A change of
members moves slightly more keys than in a ring. A lookup costs one index operation.
https://research.google/pubs/maglev-a-fast-and-reliable-software-network-load-balancer/ (section 3.4)
"""

from array import array
from collections.abc import Sequence

from xxhash import xxh64_intdigest

DEFAULT_TABLE_SIZE = 65_537
MAX_TABLE_SIZE = 5_000_011

_FREE = (1 << 16) - 1
_FREE_OF_MANY = (1 << 32) - 1


class Maglev:
    """`members` are (name, weight) pairs, at least one. `size` is prime. `find` returns a member's index."""

    __slots__ = ("_table",)

    def __init__(self, members: Sequence[tuple[str, int]], size: int = DEFAULT_TABLE_SIZE) -> None:
        heaviest = max(weight for _, weight in members)
        positions = [xxh64_intdigest(name.encode()) % size for name, _ in members]
        skips = [xxh64_intdigest(name.encode(), 1) % (size - 1) + 1 for name, _ in members]
        due = [0.0] * len(members)
        # An array from the start: to turn a list of millions into one holds the interpreter, even from a thread.
        code, empty = ("H", _FREE) if len(members) < _FREE else ("I", _FREE_OF_MANY)
        table = array(code, [empty]) * size
        free, turn = size, 0
        while free:
            turn += 1
            for place, (_, weight) in enumerate(members):
                if turn * weight < due[place]:
                    continue
                due[place] += heaviest
                position = positions[place]
                while table[position] != empty:
                    position = (position + skips[place]) % size
                table[position] = place
                positions[place] = (position + skips[place]) % size
                free -= 1
                if not free:
                    break
        self._table = table

    def find(self, key: int) -> int:
        """Return the index of the member for a key's hash."""
        return self._table[key % len(self._table)]
