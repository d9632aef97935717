"""Compile AuthorizationPolicies and PeerAuthentications to the policies that ztunnels apply.

These are AuthorizationPolicies without `targetRefs`: those in the root namespace apply to the whole mesh, others to
their namespace; with a selector, only to the selected workloads (of all namespaces for the root namespace).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from l4.config.documents import Problem
from l4.config.intake import Taken
from l4.config.resources import Change, Resource, Resources
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.authorization_rules import LOCAL_TRUST_DOMAIN, compile_policy, missing_policy
from l4.discovery.codes import DiscoveryCode
from l4.discovery.objects import ROOT_NAMESPACE
from l4.discovery.peer_authentication import PeerAuthentication, PeerAuthentications
from l4.discovery.pipeline import Discovered
from l4.discovery.registry import Registry
from l4.discovery.waypoints_ahead import Concerns, everybody, waypoints_ahead
from l4.discovery.workload_policies import Area, PolicySet, ScopedPolicy, WorkloadPolicies
from policies.authorization import Action

_AT_WAYPOINTS = frozenset({Action.AUDIT, Action.CUSTOM})
_OURS = (AuthorizationPolicy, PeerAuthentication)
_LOCAL = frozenset({LOCAL_TRUST_DOMAIN})


@dataclass(frozen=True, slots=True)
class PolicyObjects:
    """Policies, and the problems of their objects."""

    policies: PolicySet
    problems: tuple[Problem, ...]

    @classmethod
    def of(
        cls,
        resources: Resources,
        trust_domains: frozenset[str] = _LOCAL,
        denied: frozenset[str] = frozenset(),
    ) -> "PolicyObjects":
        """`denied` are namespaces of which a policy may be missing."""
        problems: list[Problem] = []
        authentications = PeerAuthentications(resources.of(PeerAuthentication), ROOT_NAMESPACE)
        scoped = [
            policy
            for resource in resources.of(AuthorizationPolicy)
            for policy in _read(resource, trust_domains, problems)
        ]
        scoped += missing_policies(denied)
        return cls(PolicySet(tuple(scoped), authentications), (*problems, *authentications.problems))

    def on(self, registry: Registry) -> WorkloadPolicies:
        """Return the policies of all workloads."""
        return WorkloadPolicies(self.policies, waypoints_ahead(registry))


class FollowedPolicies:
    """Policies of workloads, updated at the cost of what changed: they are compiled again only if their own objects
    changed.

    `concerns` selects the workloads that matter.
    """

    def __init__(self, trust_domains: frozenset[str] = _LOCAL, concerns: Concerns = everybody) -> None:
        self._trust_domains = trust_domains
        self._concerns = concerns
        self._denied: frozenset[str] = frozenset()
        self._current: WorkloadPolicies | None = None
        self.problems: tuple[Problem, ...] = ()

    def take(self, known: Discovered) -> WorkloadPolicies:
        """Return the current policies; the same object if nothing has changed for any of the workloads."""
        current, self._current = self._current, None
        taken = known.taken
        if current is None or known.update is None or self._may_differ(taken):
            self._current = WorkloadPolicies(
                self._compile(taken) if current is None or self._may_differ(taken) else current.set,
                waypoints_ahead(known.registry, self._concerns),
            )
        else:
            self._current = current.follow(known.update)
        return self._current

    def _may_differ(self, taken: Taken) -> bool:
        if taken.changes is None or taken.denied != self._denied:
            return True
        return any(isinstance(it.value, _OURS) for change in taken.changes for it in _both(change))

    def _compile(self, taken: Taken) -> PolicySet:
        found = PolicyObjects.of(taken.resources, self._trust_domains, taken.denied)
        self._denied, self.problems = taken.denied, found.problems
        return found.policies


def missing_policies(denied: Iterable[str]) -> list[ScopedPolicy]:
    """Return policies that deny everything in namespaces of which a policy may be missing."""
    return [ScopedPolicy(policy, _area(policy.namespace)) for policy in map(missing_policy, sorted(denied))]


def _both(change: Change) -> Iterator[Resource[Any]]:
    return (it for it in (change.before, change.after) if it is not None)


def _read(
    resource: Resource[AuthorizationPolicy], trust_domains: frozenset[str], problems: list[Problem]
) -> Iterable[ScopedPolicy]:
    compiled = compile_policy(resource, trust_domains)
    if compiled.targeting.refs:
        return ()
    problems += compiled.problems
    policy = compiled.policy
    if policy is None:
        return ()
    if policy.action in _AT_WAYPOINTS:
        sentence = f"ztunnels support only ALLOW and DENY; for {policy.action}, target a Service or a waypoint"
        code = DiscoveryCode.POLICY_NOT_ENFORCED
        problems.append(Problem(resource.origin, str(resource.key), "spec.action", sentence, code))
        return ()
    selector = compiled.targeting.selector
    return (ScopedPolicy(policy, _area(policy.namespace, selector.match_labels if selector is not None else None)),)


def _area(namespace: str, labels: dict[str, str] | None = None) -> Area:
    return Area(None if namespace == ROOT_NAMESPACE else namespace, labels or {})
