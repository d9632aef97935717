"""The power of two choices: of two candidates drawn at random, the one with less to do (Envoy's LEAST_REQUEST).

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers: with equal
weights two candidates are compared by their active requests; with unequal ones each candidate's share is its weight
divided by what it has to do, as in Envoy with `active_request_bias` 1.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from policies.balancing import weighted


class Loaded(Protocol):
    active: int
    weight: int


L = TypeVar("L", bound=Loaded)


def pick(candidates: Sequence[L], roll_one: float, roll_two: float) -> L:
    """One of at least one candidates; the rolls lie in [0, 1)."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    weight = candidates[0].weight
    if any(candidate.weight != weight for candidate in candidates):
        shares = [1_000_000 * candidate.weight // (candidate.active + 1) for candidate in candidates]
        return weighted.pick(candidates, shares, roll_one) or candidates[0]
    first = int(roll_one * count)
    second = int(roll_two * (count - 1))
    one, two = candidates[first], candidates[second + (second >= first)]
    return one if one.active <= two.active else two
