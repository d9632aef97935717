"""The policies that ztunnels apply to a workload, wherever they come from.

Conditions on HTTP are not evaluated. Callers that are waypoints of the workload, or of one of its services, need no
ALLOW: the waypoint has already authorized the request, and connects with its own identity.
https://istio.io/latest/docs/ambient/usage/l4-policy/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from l4.discovery.index import Update
from l4.discovery.waypoints_ahead import NoWaypoints, WaypointsAhead
from l4.discovery.workload import GatewayAddress, Workload
from policies.access import Principal
from policies.attributes import Identity
from policies.authorization import Action, Authorization, Policy, Rule
from policies.value_match import Texts


class Scope(Protocol):
    def covers(self, workload: Workload) -> bool:
        """Whether the policy applies to the workload."""


@dataclass(frozen=True, slots=True)
class Area:
    """The workloads of a namespace, or of the whole mesh if it is None, that have all these labels."""

    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def covers(self, workload: Workload) -> bool:
        return self.namespace in {None, workload.namespace} and self.labels.items() <= workload.labels.items()


@dataclass(frozen=True, slots=True)
class ScopedPolicy:
    policy: Policy
    scope: Scope


class Strictness(Protocol):
    """The policies that deny clients without an identity."""

    @property
    def is_empty(self) -> bool:
        """Whether no workload has such a policy."""

    def policy(self, workload: Workload) -> Policy | None:
        """Return the DENY policy for the workload's callers, or None if there is no restriction."""


class Lenient:
    """No workload denies clients without an identity."""

    is_empty = True

    def policy(self, workload: Workload) -> Policy | None:
        return None


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policies of the mesh that ztunnels apply."""

    scoped: tuple[ScopedPolicy, ...] = ()
    strictness: Strictness = field(default_factory=Lenient)

    @property
    def is_empty(self) -> bool:
        """Whether no policy applies to any workload."""
        return not self.scoped and self.strictness.is_empty


class WorkloadPolicies:
    """The policies of each workload. Immutable, except for a cache of the workloads that were asked about."""

    def __init__(self, policies: PolicySet, waypoints: WaypointsAhead | NoWaypoints) -> None:
        self.set = policies
        self.waypoints = waypoints
        self._by_uid: dict[str, tuple[Workload, Authorization | None]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no policy applies to any workload."""
        return self.set.is_empty

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Return all policies."""
        return tuple(scoped.policy for scoped in self.set.scoped)

    def of(self, workload: Workload) -> Authorization | None:
        """Return the workload's policies, or None if there are none."""
        known = self._by_uid.get(workload.uid)
        if known is None or known[0] is not workload:
            known = self._by_uid[workload.uid] = workload, self._authorization(workload)
        return known[1]

    def follow(self, update: Update) -> "WorkloadPolicies":
        """Return the policies after changes of workloads and services; the same object if nothing changes for the
        workloads that it was asked about."""
        waypoints, concerns = self.waypoints.follow(update), self.waypoints.concerns
        moved = {it.uid for both in update.workloads for it in (both.before, both.after) if it and concerns(it)}
        if waypoints is self.waypoints and not moved:
            return self
        found = WorkloadPolicies(self.set, waypoints)
        if waypoints is self.waypoints:
            found._by_uid = {uid: its for uid, its in self._by_uid.items() if uid not in moved}
        return found

    def _authorization(self, workload: Workload) -> Authorization | None:
        policies = [it.policy for it in self.set.scoped if it.scope.covers(workload)]
        strict = self.set.strictness.policy(workload)
        if strict is not None:
            policies.append(strict)
        if not policies:
            return None
        exempt = self._exempt(workload) if any(it.action is Action.ALLOW for it in policies) else ()
        return Authorization(tuple(policies), tuple(exempt)).for_bytes()

    def _exempt(self, workload: Workload) -> Iterator[Policy]:
        return (exempt_policy(*it) for it in self.waypoints.of(workload))


def exempt_policy(waypoint: GatewayAddress, identities: Iterable[Identity]) -> Policy:
    """Return the policy that lets a waypoint in, where policies allow only some clients."""
    principals = Texts(tuple(sorted(it.principal for it in identities)))
    name = f"istio_allow_waypoint_{waypoint.namespace}_{waypoint.gateway}"
    return Policy(waypoint.namespace, name, Action.ALLOW, (Rule(0, (((Principal(principals),),),)),))


NO_POLICIES = WorkloadPolicies(PolicySet(), WaypointsAhead({}, {}))
