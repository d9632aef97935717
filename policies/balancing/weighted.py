"""A choice at random, by weight."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


def pick(candidates: Sequence[T], weights: Sequence[int], roll: float) -> T | None:
    """The candidate on which `roll` in [0, 1) falls, each with a share of its weight; None when all weigh nothing."""
    total = sum(weights)
    point = roll * total
    for candidate, reached in zip(candidates, accumulate(weights), strict=True):
        if point < reached:
            return candidate
    return None


class Shares:
    """The same for many choices among the same weights: they are added up once, and a choice costs O(log n)."""

    __slots__ = ("_reached",)

    def __init__(self, weights: Sequence[float]) -> None:
        """Of at least one; where all weigh nothing, all are alike."""
        self._reached = list(accumulate(weights if any(weights) else [1] * len(weights)))

    def find(self, roll: float) -> int:
        """The place of the weight on which `roll` in [0, 1) falls."""
        reached = self._reached
        return min(bisect_right(reached, roll * reached[-1]), len(reached) - 1)
