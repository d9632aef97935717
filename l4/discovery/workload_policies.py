"""The policies that ztunnels apply to a workload.

These are AuthorizationPolicies without `targetRefs`: those in the root namespace apply to the whole mesh, others to
their namespace; with a selector, only to the selected workloads (of all namespaces for the root namespace). Conditions
on HTTP are not evaluated. Callers that are waypoints of the workload, or of one of its services, need no ALLOW: the
waypoint has already authorized the request, and connects with its own identity.
https://istio.io/latest/docs/ambient/usage/l4-policy/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from l4.config.documents import Problem
from l4.config.resources import Resource, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy, Targeting
from l4.discovery.authorization_rules import LOCAL_TRUST_DOMAIN, compile_policy, missing_policy
from l4.discovery.codes import DiscoveryCode
from l4.discovery.objects import ROOT_NAMESPACE
from l4.discovery.peer_authentication import PeerAuthentication, PeerAuthentications
from l4.discovery.registry import Registry
from l4.discovery.workload import GatewayAddress, Workload
from policies.access import Principal
from policies.attributes import Identity
from policies.authorization import Action, Authorization, Policy, Rule
from policies.value_match import Texts

_AT_WAYPOINTS = frozenset({Action.AUDIT, Action.CUSTOM})


@dataclass(frozen=True, slots=True)
class _Scoped:
    """A policy and its targets. `selector` is None if it applies to all workloads in scope."""

    policy: Policy
    selector: Mapping[str, str] | None

    def holds_for(self, workload: Workload) -> bool:
        is_near = self.policy.namespace in {ROOT_NAMESPACE, workload.namespace}
        return is_near and (self.selector is None or self.selector.items() <= workload.labels.items())


class WorkloadPolicies:
    """Immutable, except for a cache of workloads."""

    def __init__(
        self,
        resources: Resources,
        registry: Registry,
        trust_domains: frozenset[str] = frozenset({LOCAL_TRUST_DOMAIN}),
        denied: frozenset[str] = frozenset(),
    ) -> None:
        """`denied` are namespaces of which a policy may be missing."""
        self._registry = registry
        self._authentications = PeerAuthentications(resources.of(PeerAuthentication), ROOT_NAMESPACE)
        self._found: list[Problem] = []
        self._scoped = [
            scoped for resource in resources.of(AuthorizationPolicy) for scoped in self._read(resource, trust_domains)
        ]
        self._scoped += [_Scoped(missing_policy(namespace), None) for namespace in sorted(denied)]
        self._by_uid: dict[str, Authorization | None] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no policy applies to any workload."""
        return not self._scoped and self._authentications.is_empty

    @property
    def problems(self) -> tuple[Problem, ...]:
        return (*self._found, *self._authentications.problems)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Return all policies."""
        return tuple(scoped.policy for scoped in self._scoped)

    def of(self, workload: Workload) -> Authorization | None:
        """Return the workload's policies, or None if there are none."""
        if workload.uid not in self._by_uid:
            self._by_uid[workload.uid] = self._authorization(workload)
        return self._by_uid[workload.uid]

    def _authorization(self, workload: Workload) -> Authorization | None:
        policies = [it.policy for it in self._scoped if it.holds_for(workload)]
        strict = self._authentications.policy(workload)
        if strict is not None:
            policies.append(strict)
        if not policies:
            return None
        exempt = self._exempt(workload) if any(it.action is Action.ALLOW for it in policies) else ()
        return Authorization(tuple(policies), tuple(exempt)).for_bytes()

    def _exempt(self, workload: Workload) -> Iterator[Policy]:
        waypoints = set(self._waypoints.get(workload.uid, ()))
        if workload.waypoint is not None:
            waypoints.add(workload.waypoint)
        for waypoint in sorted(waypoints, key=lambda it: (it.namespace, it.gateway)):
            principals = Texts(tuple(sorted(it.principal for it in _identities(self._registry, waypoint))))
            name = f"istio_allow_waypoint_{waypoint.namespace}_{waypoint.gateway}"
            yield Policy(waypoint.namespace, name, Action.ALLOW, (Rule(0, (((Principal(principals),),),)),))

    @cached_property
    def _waypoints(self) -> Mapping[str, set[GatewayAddress]]:
        """Return the waypoints of each workload's services."""
        found: dict[str, set[GatewayAddress]] = {}
        for service in self._registry.services.values():
            for endpoint in service.endpoints if service.waypoint is not None else ():
                assert service.waypoint is not None
                found.setdefault(endpoint.workload.uid, set()).add(service.waypoint)
        return found

    def _read(self, resource: Resource[AuthorizationPolicy], trust_domains: frozenset[str]) -> Iterable[_Scoped]:
        compiled = compile_policy(resource, trust_domains)
        if compiled.targeting.refs:
            return ()
        self._found += compiled.problems
        policy = compiled.policy
        if policy is None:
            return ()
        if policy.action in _AT_WAYPOINTS:
            sentence = f"ztunnels support only ALLOW and DENY; for {policy.action}, target a Service or a waypoint"
            problem = Problem(
                resource.origin, str(resource.key), "spec.action", sentence, DiscoveryCode.POLICY_NOT_ENFORCED
            )
            self._found.append(problem)
            return ()
        return (_Scoped(policy, _labels(compiled.targeting)),)


def _labels(targeting: Targeting) -> Mapping[str, str] | None:
    return targeting.selector.match_labels if targeting.selector is not None else None


def _identities(registry: Registry, waypoint: GatewayAddress) -> frozenset[Identity]:
    """Return the identities of the waypoint's pods."""
    service = registry.services.get(waypoint.hostname) if waypoint.hostname else registry.service_at(waypoint.ip)
    if service is not None:
        return frozenset(endpoint.workload.identity for endpoint in service.endpoints)
    workload = registry.workload_at(waypoint.ip) if waypoint.ip else None
    return frozenset({workload.identity}) if workload is not None else frozenset()


NO_POLICIES = WorkloadPolicies(Resources(), Registry())
