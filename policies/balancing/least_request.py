"""Power of two choices: pick two random candidates and use the one with fewer active requests (Envoy's LEAST_REQUEST).

If weights differ, candidates are drawn by weight, and active requests are compared relative to weight. Idle candidates
get exactly their shares, and a pick costs O(log n). Envoy uses a schedule by weight / (active + 1) instead, whose
shares under load are similar.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from policies.balancing.weighted import Shares


class Loaded(Protocol):
    active: int
    weight: int


L = TypeVar("L", bound=Loaded)


class LeastRequest(Generic[L]):
    """Needs at least one candidate. Weights are read once, active requests at each pick."""

    __slots__ = ("_candidates", "_count", "_shares")

    def __init__(self, candidates: Sequence[L]) -> None:
        self._candidates = candidates
        self._count = len(candidates)
        weights = [candidate.weight for candidate in candidates]
        self._shares = Shares(weights) if len(set(weights)) > 1 else None

    def pick(self, roll_one: float, roll_two: float) -> L:
        """Pick a candidate. Both rolls are in [0, 1)."""
        candidates, shares = self._candidates, self._shares
        if self._count == 1:
            return candidates[0]
        if shares is not None:
            one, two = candidates[shares.find(roll_one)], candidates[shares.find(roll_two)]
            return one if one.active * two.weight <= two.active * one.weight else two
        first = int(roll_one * self._count)
        second = int(roll_two * (self._count - 1))
        one, two = candidates[first], candidates[second + (second >= first)]
        return one if one.active <= two.active else two
