"""A choice at random, by weight."""

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
