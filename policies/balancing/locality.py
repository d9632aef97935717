"""Which endpoints come first, by where they are: near ones before far ones, or fixed shares for each place.

An endpoint has a *rank*, given to it when the configuration is compiled. Where ranks are priorities, the first one gets
everything while 1/1.4 of its endpoints (71 %) are in; below that, the next ones get what it lacks, and so on. Where
ranks are shares, a place that has lost endpoints keeps its share until it has lost as many, and gives up the rest.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
https://istio.io/latest/docs/tasks/traffic-management/locality-load-balancing/
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OVERPROVISIONING = 1.4  # Envoy's
_PARTS = 3

Locality = tuple[str, str, str]
"""Region, zone, subzone; empty where it is not known."""


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """A priority, 0 the first; or, of a `place` (a number that tells places apart), a share in percent."""

    priority: int = 0
    place: int = 0
    share: int = 0


NEAREST = Rank()


@dataclass(slots=True)
class Group:
    """The endpoints of one rank: how many there are, and how many of them may be asked."""

    rank: Rank
    available: int
    total: int

    @property
    def health(self) -> float:
        return min(OVERPROVISIONING * self.available / self.total, 1.0)


def loads(groups: Sequence[Group]) -> list[float]:
    """What each group gets of all requests; the sum is 1, or 0 when nobody is in. In the order of their ranks."""
    wanted = [group.rank.share * group.health for group in groups]
    if not any(group.rank.share for group in groups):
        wanted = _in_order([group.health for group in groups])
    whole = sum(wanted)
    return [it / whole for it in wanted] if whole else wanted


def _in_order(healths: Iterable[float]) -> list[float]:
    """Each takes what it can of what those before it have left."""
    left, taken = 1.0, []
    for health in healths:
        taken.append(min(health, left))
        left -= taken[-1]
    return taken


# -- ranks ---------------------------------------------------------------------------------------------------------


def parse_locality(text: str) -> Locality:
    """Of `region/zone/subzone`, or less of it."""
    region, zone, subzone, *_ = (*text.split("/"), "", "", "")
    return region, zone, subzone


def matches(locality: Locality, pattern: str) -> bool:
    """A part that is `*` or missing in the pattern means any; the region must be said."""
    region, *narrower = parse_locality(pattern)
    return region in {"*", locality[0]} and all(
        wanted in {"", "*", part} for wanted, part in zip(narrower, locality[1:], strict=True)
    )


def priority_by_locality(own: Locality, other: Locality, failover: Mapping[str, str]) -> int:
    """0 in the own subzone, 1 in the zone, 2 in the region, 3 elsewhere; where the own region has another one to fail
    over to, 4 anywhere but there."""
    shared = next((count for count in range(_PARTS) if own[count] != other[count]), _PARTS)
    if shared == 0 and failover.get(own[0], other[0]) != other[0]:
        return _PARTS + 1
    return _PARTS - shared


def priority_by_labels(order: Sequence[str], own: Mapping[str, str], other: Mapping[str, str]) -> int:
    """0 where all labels agree; one more for each label from the first that doesn't on. `name=value` is a label that
    endpoints must have, whatever the own is."""
    for index, label in enumerate(order):
        name, is_fixed, value = label.partition("=")
        if other.get(name, "") != (value if is_fixed else own.get(name, "")):
            return len(order) - index
    return 0


def share_of(locality: Locality, shares: Mapping[str, int]) -> Rank | None:
    """Under the narrowest pattern that matches; None where no requests are to go."""
    patterns = sorted(shares, key=lambda it: (-len(it.rstrip("*/").split("/")), it.startswith("*"), it))
    for place, pattern in enumerate(patterns):
        if matches(locality, pattern):
            return Rank(place=place, share=shares[pattern])
    return None
