"""The same key meets the same endpoint, and a change of endpoints moves few keys: Envoy's ring, byte for byte.

Each endpoint has points on a ring of 64-bit hashes, as many as its weight is worth; a key belongs to the first point at
or after its own hash. The hash is xxHash64 without a seed, over `NAME_NUMBER` for points.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers#ring-hash
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from math import ceil

from xxhash import xxh64_intdigest

MAX_RING_SIZE = 8 << 20
DEFAULT_RING_SIZE = 1024


class Ring:
    """`members` are (name, weight), at least one; what is found is a member's place among them."""

    __slots__ = ("_hashes", "_places")

    def __init__(self, members: Sequence[tuple[str, int]], min_size: int = DEFAULT_RING_SIZE) -> None:
        total = sum(weight for _, weight in members)
        least = min(weight for _, weight in members) / total
        scale = min(ceil(least * min_size) / least, MAX_RING_SIZE)
        points: list[tuple[int, int]] = []
        target = 0.0
        for place, (name, weight) in enumerate(members):
            target += scale * weight / total
            number = 0
            while len(points) < target:
                points.append((xxh64_intdigest(f"{name}_{number}".encode()), place))
                number += 1
        points.sort()
        self._hashes = [point for point, _ in points]
        self._places = [place for _, place in points]

    def find(self, key: int) -> int:
        """The place of the member that a key's hash belongs to."""
        return self._places[bisect_left(self._hashes, key) % len(self._places)]


@lru_cache(maxsize=256)
def ring_of(members: tuple[tuple[str, int], ...], size: int) -> Ring:
    """The same for the same members: they come back as often as an endpoint is ejected and returns."""
    return Ring(members, size)
