"""Locality load balancing: prefer near endpoints, or give each locality a fixed share.

Each endpoint has a *rank*, assigned when the configuration is compiled. If ranks are priorities, the first one gets all
requests while at least 1/1.4 (71 %) of its endpoints are available; below that, the next priorities get the difference.
If ranks are shares, a locality keeps its share until it has lost that many endpoints, and then gives up the rest.
https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
https://istio.io/latest/docs/tasks/traffic-management/locality-load-balancing/
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OVERPROVISIONING = 1.4  # Envoy's
_PARTS = 3

Locality = tuple[str, str, str]
"""Region, zone and subzone. Unknown parts are empty."""


@dataclass(frozen=True, slots=True, order=True)
class Rank:
    """A priority (0 is first), or a share in percent of the locality numbered `place`."""

    priority: int = 0
    place: int = 0
    share: int = 0


NEAREST = Rank()


@dataclass(slots=True)
class Group:
    """The endpoints of one rank: their total number, and how many are available."""

    rank: Rank
    available: int
    total: int

    @property
    def health(self) -> float:
        return min(OVERPROVISIONING * self.available / self.total, 1.0)


def loads(groups: Sequence[Group]) -> list[float]:
    """Return each group's share of all requests, in order of rank. The sum is 1, or 0 if no endpoint is available."""
    wanted = [group.rank.share * group.health for group in groups]
    if not any(group.rank.share for group in groups):
        wanted = _in_order([group.health for group in groups])
    whole = sum(wanted)
    return [it / whole for it in wanted] if whole else wanted


def _in_order(healths: Iterable[float]) -> list[float]:
    """Each group takes what it can of what the groups before it left."""
    left, taken = 1.0, []
    for health in healths:
        taken.append(min(health, left))
        left -= taken[-1]
    return taken


# -- ranks ---------------------------------------------------------------------------------------------------------


def parse_locality(text: str) -> Locality:
    """Parse `region/zone/subzone`. Missing parts are empty."""
    region, zone, subzone, *_ = (*text.split("/"), "", "", "")
    return region, zone, subzone


def matches(locality: Locality, pattern: str) -> bool:
    """Whether a locality matches. `*` or a missing part matches any; the pattern must contain the region."""
    region, *narrower = parse_locality(pattern)
    return region in {"*", locality[0]} and all(
        wanted in {"", "*", part} for wanted, part in zip(narrower, locality[1:], strict=True)
    )


def priority_by_locality(own: Locality, other: Locality, failover: Mapping[str, str]) -> int:
    """Return 0 for the same subzone, 1 for the same zone, 2 for the same region, 3 elsewhere.

    If `failover` names a region for the own one, localities in other regions get 4.
    """
    shared = next((count for count in range(_PARTS) if own[count] != other[count]), _PARTS)
    if shared == 0 and failover.get(own[0], other[0]) != other[0]:
        return _PARTS + 1
    return _PARTS - shared


def priority_by_labels(order: Sequence[str], own: Mapping[str, str], other: Mapping[str, str]) -> int:
    """Return 0 if all labels are equal, or the number of labels from the first difference on.

    `name=value` requires that value of the endpoint, whatever the own label is.
    """
    for index, label in enumerate(order):
        name, is_fixed, value = label.partition("=")
        if other.get(name, "") != (value if is_fixed else own.get(name, "")):
            return len(order) - index
    return 0


def share_of(locality: Locality, shares: Mapping[str, int]) -> Rank | None:
    """Return the rank under the narrowest matching pattern, or None if the locality gets no requests."""
    patterns = sorted(shares, key=lambda it: (-len(it.rstrip("*/").split("/")), it.startswith("*"), it))
    for place, pattern in enumerate(patterns):
        if matches(locality, pattern):
            return Rank(place=place, share=shares[pattern])
    return None
