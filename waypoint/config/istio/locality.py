"""The waypoint's locality, and the resulting rank of endpoints: DestinationRule's `localityLbSetting`.

Without that setting, a Service's `trafficDistribution` applies; and with outlier detection, near endpoints precede far
ones, as in Istio. Failover requires outlier detection, since otherwise no endpoint would count as failed. A Service's
distribution does not require it, because it also handles localities without endpoints.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from l4.config.documents import Problem
from l4.discovery.label_names import HOSTNAME, NETWORK, REGION, SUBZONE, ZONE
from l4.discovery.registry import Registry
from l4.discovery.waypoints import serves
from l4.discovery.workload import Service, Workload
from policies.balancing.locality import (
    NEAREST,
    Locality,
    Rank,
    matches,
    parse_locality,
    priority_by_labels,
    priority_by_locality,
    share_of,
)
from waypoint.config.codes import ConfigCode
from waypoint.config.istio.destination_rule import Policy
from waypoint.config.istio.traffic_policy import LocalityLb

_SAME_ZONE = (NETWORK, REGION, ZONE)
_DISTRIBUTIONS = {
    "PreferClose": _SAME_ZONE,
    "PreferSameZone": _SAME_ZONE,
    "PreferSameNode": (*_SAME_ZONE, SUBZONE, HOSTNAME),
}

Ranking = Callable[[Workload], Rank | None]
"""Returns the rank of a workload, or None if it gets no requests."""
T = TypeVar("T")


def anywhere(workload: Workload) -> Rank:
    return NEAREST


@dataclass(frozen=True, slots=True)
class Place:
    """The waypoint's locality and its pod's labels. What is unknown or differs between its pods is empty."""

    locality: Locality = ("", "", "")
    labels: Mapping[str, str] = field(default_factory=dict)


NOWHERE = Place()


def place_of(registry: Registry, gateway: tuple[str, str], own_ip: str | None) -> Place:
    """Return the locality of the pod with `own_ip`, else what all pods of the Gateway have in common."""
    own = registry.workload_at(own_ip) if own_ip else None
    pods = [own] if own is not None else list(_pods(registry, gateway))
    if not pods:
        return NOWHERE
    region, zone, subzone = (_common(parse_locality(pod.locality)[part] for pod in pods) for part in range(3))
    first, *rest = map(_labels, pods)
    return Place((region, zone, subzone), dict(set(first.items()).intersection(*(it.items() for it in rest))))


def ranking(policy: Policy, service: Service, own: Place) -> Ranking:
    setting = policy.load_balancer[0].locality_lb_setting if policy.load_balancer is not None else None
    if setting is not None:
        return _by_setting(setting, own, fails_over=policy.outlier_detection is not None)
    if (order := _DISTRIBUTIONS.get(service.traffic_distribution)) is not None:
        return _by_labels(order, own)
    return _by_locality({}, own) if policy.outlier_detection is not None else anywhere


def problems(policy: Policy, own: Place) -> Iterator[Problem]:
    """Yield problems of a setting that has no effect."""
    if policy.load_balancer is None:
        return
    balancer, part = policy.load_balancer
    setting = balancer.locality_lb_setting
    if setting is None or setting.enabled is False:
        return
    place = "localityLbSetting"
    if not setting.failover_priority and not own.locality[0]:
        sentence = "has no effect: this waypoint's locality is unknown; label its Node topology.kubernetes.io/region"
        yield part.problem(place, sentence, ConfigCode.LOCALITY_WITHOUT_EFFECT)
    elif not setting.distribute and policy.outlier_detection is None:
        sentence = "has no effect without outlierDetection, which detects failed endpoints; add it"
        yield part.problem(place, sentence, ConfigCode.LOCALITY_WITHOUT_EFFECT)


def _by_setting(setting: LocalityLb, own: Place, *, fails_over: bool) -> Ranking:
    if setting.enabled is False:
        return anywhere
    for distribute in setting.distribute:
        if own.locality[0] and matches(own.locality, distribute.from_):
            return _by_shares(distribute.to)
    if setting.distribute or not fails_over:
        return anywhere
    if setting.failover_priority:
        return _by_labels(setting.failover_priority, own)
    return _by_locality({it.from_: it.to for it in setting.failover}, own)


def _by_shares(shares: Mapping[str, int]) -> Ranking:
    return lambda workload: share_of(parse_locality(workload.locality), shares)


def _by_labels(order: tuple[str, ...], own: Place) -> Ranking:
    return lambda workload: Rank(priority_by_labels(order, own.labels, _labels(workload)))


def _by_locality(failover: Mapping[str, str], own: Place) -> Ranking:
    if not own.locality[0]:
        return anywhere
    return lambda workload: Rank(priority_by_locality(own.locality, parse_locality(workload.locality), failover))


def _pods(registry: Registry, gateway: tuple[str, str]) -> Iterator[Workload]:
    return (it for it in registry.workloads.values() if serves(it, gateway))


def _labels(workload: Workload) -> dict[str, str]:
    """Return the workload's labels with its locality."""
    region, zone, subzone = parse_locality(workload.locality)
    places = {NETWORK: workload.network, REGION: region, ZONE: zone, SUBZONE: subzone, HOSTNAME: workload.node}
    return {**workload.labels, **places}


def _common(values: Iterable[str]) -> str:
    found = set(values)
    return found.pop() if len(found) == 1 else ""
