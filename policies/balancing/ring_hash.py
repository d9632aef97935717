"""Consistent hashing with a ring: a change of endpoints moves few keys. Identical to Envoy's ring, byte for byte.

Each endpoint has points on a ring of 64-bit hashes, in proportion to its weight. A key belongs to the first point at or
after its hash. Hashes are xxHash64 without a seed; a point's input is `NAME_NUMBER`.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers#ring-hash
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

from xxhash import xxh64_intdigest

MAX_RING_SIZE = 8 << 20
DEFAULT_RING_SIZE = 1024

_PART = 256


class Ring:
    """`members` are (name, weight) pairs, at least one. `find` returns a member's index."""

    __slots__ = ("_hashes", "_places")

    def __init__(self, members: Sequence[tuple[str, int]], min_size: int = DEFAULT_RING_SIZE) -> None:
        total = sum(weight for _, weight in members)
        least = min(weight for _, weight in members) / total
        scale = min(ceil(least * min_size) / least, MAX_RING_SIZE)
        # Sorted in parts: to sort, or to free, one list of millions holds the interpreter, even from a thread.
        count = ceil(scale / _PART)
        parts: list[list[int]] = [[] for _ in range(count)]
        target, reached = 0.0, 0
        for place, (name, weight) in enumerate(members):
            target += scale * weight / total
            number = 0
            while reached < target:
                point = xxh64_intdigest(f"{name}_{number}".encode())
                parts[point * count >> 64].append(point << 32 | place)
                number += 1
                reached += 1
        self._hashes, self._places = array("Q"), array("I")
        for part in parts:
            part.sort()
            self._hashes.extend(point >> 32 for point in part)
            self._places.extend(point & 0xFFFFFFFF for point in part)
            part.clear()

    def find(self, key: int) -> int:
        """Return the index of the member for a key's hash."""
        return self._places[bisect_left(self._hashes, key) % len(self._places)]
