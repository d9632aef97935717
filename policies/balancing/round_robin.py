"""Each in turn; where weights differ, as often as its weight says and spread evenly.

With weights, the candidate whose next turn is due first is taken, and is due again 1/weight later (earliest deadline
first, as in Envoy): a pick costs O(log n).
"""

from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import Generic, Protocol, TypeVar


class Weighted(Protocol):
    weight: int


W = TypeVar("W", bound=Weighted)


class RoundRobin(Generic[W]):
    """Over at least one candidate. `start` in [0, 1) is where the first round begins, so that many who start at once
    don't all begin with the same one."""

    __slots__ = ("_candidates", "_due", "_next")

    def __init__(self, candidates: Sequence[W], start: float) -> None:
        self._candidates = candidates
        self._next = int(start * len(candidates))
        self._due: list[tuple[float, int]] = []
        if len({it.weight for it in candidates}) > 1:
            self._due = [
                ((start + index / len(candidates)) % 1 / it.weight, index) for index, it in enumerate(candidates)
            ]
            heapify(self._due)

    def pick(self) -> W:
        if self._due:
            time, index = self._due[0]
            heapreplace(self._due, (time + 1 / self._candidates[index].weight, index))
            return self._candidates[index]
        self._next = (self._next + 1) % len(self._candidates)
        return self._candidates[self._next]
