"""Policies that are attached directly, laid upon the rules and destinations that they are for."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from l4.config.documents import Problem
from l4.config.resources import Resources
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from policies.rate_limit import RateLimits
from policies.route import Route, Rule
from waypoint.config.backend_traffic_policy import BackendTraffic, XBackendTrafficPolicy, traffic_of
from waypoint.config.direct_policy import DirectPolicies, Target, Targets, candidates
from waypoint.config.limits import limits_of, replicas_of
from waypoint.config.rate_limit_policy import RateLimitPolicy
from waypoint.config.snapshot import ClusterConfig
from waypoint.config.status import PolicyStatus


class Policies:
    def __init__(self, resources: Resources, registry: Registry, targets: Targets, gateway: tuple[str, str]) -> None:
        replicas = replicas_of(registry, gateway)
        self._gateway = Target("Gateway", *gateway)
        self._limits: DirectPolicies[RateLimits] = DirectPolicies(
            resources.of(RateLimitPolicy), targets, lambda it, target, _: limits_of(it, target, replicas)
        )
        self._traffic: DirectPolicies[BackendTraffic] = DirectPolicies(
            resources.of(XBackendTrafficPolicy), targets, lambda it, target, _: traffic_of(it.key, it.value.spec)
        )

    @property
    def limits(self) -> tuple[RateLimits, ...]:
        return tuple(limits for _, limits in sorted(self._limits.in_force.items()))

    @property
    def problems(self) -> Iterator[Problem]:
        yield from self._limits.problems
        yield from self._traffic.problems

    @property
    def statuses(self) -> Iterator[PolicyStatus]:
        yield from self._limits.statuses
        yield from self._traffic.statuses

    def cluster(self, config: ClusterConfig) -> ClusterConfig:
        """A destination with what the policies add to it."""
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
        """The routes of a port, with what the policies add to their rules."""
        if not self._limits.in_force:
            return list(routes)
        return [replace(route, rule=self._rule(route.rule, service, port)) for route in routes]

    def _rule(self, rule: Rule, service: Service | None, port: ServicePort | None) -> Rule:
        limits = self._limits.on(candidates(rule, service, port, self._gateway))
        return rule if limits is None else replace(rule, limits=limits)
