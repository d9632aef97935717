"""Apply attached policies to compiled rules and clusters."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from l4.config.documents import Problem
from l4.config.resources import Resources
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from policies.filters import in_order
from policies.path_normalization import PathNormalization
from policies.route import Route, Rule
from waypoint.config.destinations import Destinations
from waypoint.config.gateway_api.backend_traffic_policy import BackendTraffic, XBackendTrafficPolicy, traffic_of
from waypoint.config.ours.attached import ATTACHED, Compiling
from waypoint.config.ours.direct_policy import DirectPolicies, Target, Targets, candidates
from waypoint.config.snapshot import ClusterConfig
from waypoint.config.status import PolicyStatus


class AttachedPolicies:
    def __init__(
        self,
        resources: Resources,
        registry: Registry,
        targets: Targets,
        gateway: tuple[str, str],
        normalization: PathNormalization,
        clusters: Destinations,
    ) -> None:
        self._gateway = Target("Gateway", *gateway)
        compiling = Compiling(registry, gateway, normalization, clusters)
        self._attached: list[DirectPolicies[Any]] = [
            DirectPolicies(resources.of(it.schema), targets, it.compiler(compiling)) for it in ATTACHED
        ]
        self._traffic: DirectPolicies[BackendTraffic] = DirectPolicies(
            resources.of(XBackendTrafficPolicy), targets, lambda it, target, _: traffic_of(it.key, it.value.spec)
        )
        self._are_any = any(it.in_force for it in self._attached)

    @property
    def attached(self) -> tuple[object, ...]:
        """Return the policies that filters enforce."""
        return tuple(policy for its in self._attached for policy in _by_target(its))

    @property
    def problems(self) -> Iterator[Problem]:
        for its in (*self._attached, self._traffic):
            yield from its.problems

    @property
    def statuses(self) -> Iterator[PolicyStatus]:
        for its in (*self._attached, self._traffic):
            yield from its.statuses

    def cluster(self, config: ClusterConfig) -> ClusterConfig:
        """Return the cluster configuration with policies applied."""
        service = config.service
        traffic = self._traffic.on([Target("Service", service.namespace, service.name)])
        if traffic is None:
            return config
        return replace(
            config, retry_budget=traffic.retry_budget or config.retry_budget, session=traffic.session or config.session
        )

    def lay_upon(
        self, routes: Iterable[Route], service: Service | None = None, port: ServicePort | None = None
    ) -> list[Route]:
        """Return the routes of a port with policies applied to their rules."""
        if not self._are_any:
            return list(routes)
        return [replace(route, rule=self._rule(route.rule, service, port)) for route in routes]

    def _rule(self, rule: Rule, service: Service | None, port: ServicePort | None) -> Rule:
        targets = tuple(candidates(rule, service, port, self._gateway))
        found = [policy for its in self._attached if (policy := its.on(targets)) is not None]
        if not found:
            return rule
        return replace(rule, filters=replace(rule.filters, policies=in_order([*rule.filters.policies, *found])))


def _by_target(policies: DirectPolicies[Any]) -> list[object]:
    return [it for _, it in sorted(policies.in_force.items(), key=lambda pair: pair[0])]
