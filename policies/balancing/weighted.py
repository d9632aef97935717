"""Weighted random choice."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


def pick(candidates: Sequence[T], weights: Sequence[int], roll: float) -> T | None:
    """Pick a candidate by weight; `roll` is in [0, 1). None if all weights are 0."""
    total = sum(weights)
    point = roll * total
    for candidate, reached in zip(candidates, accumulate(weights), strict=True):
        if point < reached:
            return candidate
    return None


class Shares:
    """Weighted choice that is prepared once for many picks of O(log n)."""

    __slots__ = ("_reached",)

    def __init__(self, weights: Sequence[float]) -> None:
        """Needs at least one weight. If all are 0, all candidates are equal."""
        self._reached = list(accumulate(weights if any(weights) else [1] * len(weights)))

    def find(self, roll: float) -> int:
        """Return the index of the weight on which `roll` in [0, 1) falls."""
        reached = self._reached
        return min(bisect_right(reached, roll * reached[-1]), len(reached) - 1)
