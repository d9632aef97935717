"""Round robin. With different weights, each candidate is picked as often as its weight says, evenly spread.

With weights, the candidate with the earliest deadline is picked, and is due again 1/weight later (as in Envoy). A pick
costs O(log n).
"""

from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import Generic, Protocol, TypeVar


class Weighted(Protocol):
    weight: int


W = TypeVar("W", bound=Weighted)


class RoundRobin(Generic[W]):
    """Needs at least one candidate.

    `start` in [0, 1) is the position of the first round, so that many balancers do not all start with the same
    candidate.
    """

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
