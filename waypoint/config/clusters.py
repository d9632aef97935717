"""Cluster configurations: one for each port of a service, or of a subset, that requests may go to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, overload

from l4.config.documents import Problem
from l4.discovery.objects import is_ip
from l4.discovery.workload import AppProtocol, NamedEndpoint, Service, ServicePort, TunnelProtocol, Workload, usable
from policies.attributes import ClusterName, Identity
from policies.balancing.endpoint import Endpoint
from policies.balancing.locality import NEAREST, Rank
from waypoint.config.istio import locality
from waypoint.config.istio.destination_rule import DestinationRules, Part, Subset
from waypoint.config.istio.locality import NOWHERE, Place, Ranking
from waypoint.config.istio.upstream_policy import UpstreamPolicies
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig, ServiceLabels

_OPAQUE = frozenset({AppProtocol.TCP, AppProtocol.TLS})
_NO_LABELS: Mapping[str, str] = {}
_NOBODY = Identity("", "", "")


@dataclass(frozen=True, slots=True)
class _Made:
    """How a cluster was built, and its problems."""

    name: ClusterName
    port: ServicePort
    subset: tuple[Subset, Part] | None
    problems: tuple[Problem, ...]


class ClusterConfigs:
    """Builds cluster configurations on first use (`destinations.Destinations`).

    `gateway` is the (namespace, name) of our Gateway, and `place` our locality. Services with the hostnames `leaving`
    are ours, too, although they are bound no longer.
    """

    def __init__(
        self,
        gateway: tuple[str, str],
        rules: DestinationRules,
        place: Place = NOWHERE,
        leaving: frozenset[str] = frozenset(),
    ) -> None:
        self.by_name: dict[ClusterName, ClusterConfig] = {}
        self._gateway = gateway
        self._rules = rules
        self._policies = UpstreamPolicies(rules)
        self._place = place
        self._leaving = leaving
        self._made: dict[str, list[_Made]] = {}

    def is_ours(self, bound: Service | Workload) -> bool:
        if isinstance(bound, Service) and bound.hostname in self._leaving:
            return True
        waypoints = bound.waypoints if isinstance(bound, Service) else (bound.waypoint,)
        return any(it is not None and (it.namespace, it.gateway) == self._gateway for it in waypoints)

    @overload
    def of(self, service: Service, port: ServicePort, subset: Literal[""] = "") -> ClusterName: ...

    @overload
    def of(self, service: Service, port: ServicePort, subset: str) -> ClusterName | None: ...

    def of(self, service: Service, port: ServicePort, subset: str = "") -> ClusterName | None:
        name = self._name(service, port, subset)
        if name in self.by_name:
            return name
        found = self._rules.subset(service, subset) if subset else None
        if subset and found is None:
            return None
        self._made.setdefault(service.hostname, []).append(self._make(name, service, port, found))
        return name

    def again(self, service: Service) -> list[ClusterConfig]:
        """Rebuild the clusters of a service of which only the endpoints changed. None if its problems change too."""
        made = [self._make(it.name, service, it.port, it.subset) for it in self._made.get(service.hostname, ())]
        if made:
            self._made[service.hostname] = made
        return [self.by_name[it.name] for it in made]

    @property
    def problems(self) -> Iterator[Problem]:
        """The problems found while building clusters."""
        for made in self._made.values():
            for it in made:
                yield from it.problems

    def problems_of(self, service: Service) -> list[Problem]:
        return [problem for it in self._made.get(service.hostname, ()) for problem in it.problems]

    def _make(
        self, name: ClusterName, service: Service, port: ServicePort, subset: tuple[Subset, Part] | None
    ) -> _Made:
        told = len(self._rules.problems)
        self.by_name[name] = self._config(name, service, port, subset)
        problems = tuple(self._rules.problems[told:])
        del self._rules.problems[told:]
        return _Made(name, port, subset, problems)

    def made_of(self, service: Service) -> list[ClusterConfig]:
        """Return the requested clusters of a service."""
        return [self.by_name[it.name] for it in self._made.get(service.hostname, ())]

    def forget(self, service: Service) -> list[ClusterName]:
        """Forget a removed or changed service. Returns the names of its clusters."""
        names = [it.name for it in self._made.pop(service.hostname, ())]
        for name in names:
            del self.by_name[name]
        return names

    def _config(
        self, name: ClusterName, service: Service, port: ServicePort, subset: tuple[Subset, Part] | None
    ) -> ClusterConfig:
        labels = subset[0].labels if subset is not None else _NO_LABELS
        policy = self._rules.policy(service, port, subset)
        if subset is not None:
            self._rules.tell_empty(service, *subset)
        self._rules.problems.extend(locality.problems(policy, self._place))
        rank = locality.ranking(policy, service, self._place)
        config = self._policies.applied(
            ClusterConfig(
                name=name,
                service=ServiceLabels(service.hostname, service.name, service.namespace),
                port=port.port,
                app_protocol=port.app_protocol,
                endpoints=tuple(_endpoints(service, port.port, labels, rank)),
                names=tuple(_names(service, port.port, labels, rank)),
                followed=service.followed,
            ),
            policy,
            service.subject_alt_names,
        )
        tls = config.tls
        return (
            config if tls is None else replace(config, endpoints=tuple(replace(it, tls=tls) for it in config.endpoints))
        )

    def direct(self, workload: Workload, port: int) -> ClusterName:
        """Return the cluster of a workload that is called by its own address, healthy or not, as it has no
        substitute."""
        name = ClusterName(f"direct|{port}||{workload.addresses[0]}")
        if name not in self.by_name:
            self.by_name[name] = ClusterConfig(
                name=name,
                service=UNKNOWN_SERVICE,
                port=port,
                app_protocol=AppProtocol.UNKNOWN,
                endpoints=(_endpoint(workload, port),),
            )
        return name

    def at(self, host: str, port: int) -> ClusterName:
        name = ClusterName(f"address|{port}||{host}")
        if name not in self.by_name:
            workload = Workload(
                uid=name,
                name=host,
                namespace="",
                addresses=(host,),
                identity=_NOBODY,
                tunnel_protocol=TunnelProtocol.NONE,
                node="",
                is_healthy=True,
                workload_name=host,
            )
            self.by_name[name] = ClusterConfig(
                name=name,
                service=replace(UNKNOWN_SERVICE, hostname=host),
                port=port,
                app_protocol=AppProtocol.UNKNOWN,
                endpoints=(_endpoint(workload, port),) if is_ip(host) else (),
                names=() if is_ip(host) else (NamedEndpoint(host, {port: port}, workload.capacity, workload),),
            )
        return name

    def _name(self, service: Service, port: ServicePort, subset: str) -> ClusterName:
        if not self.is_ours(service):
            return ClusterName(f"outbound|{port.port}|{subset}|{service.hostname}")
        kind = "tcp" if port.app_protocol in _OPAQUE else "http"
        return ClusterName(f"inbound-vip|{port.port}|{kind}{subset and '/'}{subset}|{service.hostname}")


def _endpoints(service: Service, port: int, labels: Mapping[str, str], rank: Ranking) -> Iterator[Endpoint]:
    """Yield usable endpoints with these labels and a rank, sorted by address."""
    fitting = [
        it
        for it in service.endpoints
        if it.workload.addresses
        and port in it.ports
        and labels.items() <= it.workload.labels.items()
        and rank(it.workload) is not None
    ]
    for it in sorted(usable(fitting), key=lambda it: it.workload.addresses):
        its = rank(it.workload)
        assert its is not None
        yield _endpoint(it.workload, it.ports[port], its)


def _names(service: Service, port: int, labels: Mapping[str, str], rank: Ranking) -> Iterator[NamedEndpoint]:
    for it in service.names:
        is_wanted = port in it.ports and labels.items() <= it.workload.labels.items()
        if is_wanted and (its := rank(it.workload)) is not None:
            yield replace(it, rank=its)


def _endpoint(workload: Workload, port: int, rank: Rank = NEAREST) -> Endpoint:
    return Endpoint(
        ip=workload.addresses[0],
        port=port,
        identity=workload.tunnel_identity,
        workload=workload.metric_labels,
        weight=workload.capacity,
        rank=rank,
    )
