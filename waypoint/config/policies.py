"""Policies that are attached directly, laid upon the rules and destinations that they are for."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from l4.config.documents import Problem
from l4.config.resources import Resources
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from policies.fault_plan import FaultPlan
from policies.path_normalization import PathNormalization
from policies.rate_limit import RateLimits
from policies.route import Route, Rule
from waypoint.config.destinations import Destinations
from waypoint.config.gateway_api.backend_traffic_policy import BackendTraffic, XBackendTrafficPolicy, traffic_of
from waypoint.config.ours.direct_policy import DirectPolicies, Target, Targets, candidates
from waypoint.config.ours.fault_policy import FaultPolicy, plan_of
from waypoint.config.ours.rate_limit_policy import LimitCompiler, RateLimitPolicy
from waypoint.config.snapshot import ClusterConfig
from waypoint.config.status import PolicyStatus

C = TypeVar("C")


class Policies:
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
        self._limits: DirectPolicies[RateLimits] = DirectPolicies(
            resources.of(RateLimitPolicy), targets, LimitCompiler(registry, gateway, normalization, clusters).limits
        )
        self._traffic: DirectPolicies[BackendTraffic] = DirectPolicies(
            resources.of(XBackendTrafficPolicy), targets, lambda it, target, _: traffic_of(it.key, it.value.spec)
        )
        self._faults: DirectPolicies[FaultPlan] = DirectPolicies(
            resources.of(FaultPolicy), targets, lambda it, target, _: plan_of(it, target, normalization)
        )

    @property
    def limits(self) -> tuple[RateLimits, ...]:
        return _by_target(self._limits)

    @property
    def fault_plans(self) -> tuple[FaultPlan, ...]:
        return _by_target(self._faults)

    @property
    def problems(self) -> Iterator[Problem]:
        yield from (*self._limits.problems, *self._faults.problems, *self._traffic.problems)

    @property
    def statuses(self) -> Iterator[PolicyStatus]:
        yield from (*self._limits.statuses, *self._faults.statuses, *self._traffic.statuses)

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
        if not self._limits.in_force and not self._faults.in_force:
            return list(routes)
        return [replace(route, rule=self._rule(route.rule, service, port)) for route in routes]

    def _rule(self, rule: Rule, service: Service | None, port: ServicePort | None) -> Rule:
        targets = tuple(candidates(rule, service, port, self._gateway))
        limits, plan = self._limits.on(targets), self._faults.on(targets)
        return rule if limits is None and plan is None else replace(rule, limits=limits, fault_plan=plan)


def _by_target(policies: DirectPolicies[C]) -> tuple[C, ...]:
    return tuple(it for _, it in sorted(policies.in_force.items(), key=lambda pair: pair[0]))
