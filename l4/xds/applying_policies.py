"""Which policies apply to each workload by name, and all policies of the mesh, for clients of a discovery server.

Some are not objects: that a workload accepts only mutual TLS, and that its waypoints may call it where policies allow
only some clients.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Set

from l4.discovery.registry import Registry
from l4.discovery.waypoints_ahead import WaypointsAhead
from l4.discovery.workload import Workload
from l4.discovery.workload_policies import NO_POLICIES, PolicySet, ScopedPolicy, WorkloadPolicies, exempt_policy
from l4.xds.authorization_messages import is_by_name
from l4.xds.authorizations import Named
from policies.authorization import Action, Policy


class ApplyingPolicies:
    """Follows the policies of all workloads."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}
        self._strict: dict[str, Policy] = {}
        self._strict_users: Counter[Policy] = Counter()
        self._use(NO_POLICIES)

    def of(self, uid: str) -> tuple[str, ...]:
        """Return the names of the policies that apply to a workload by name."""
        return self._names.get(uid, ())

    def all(self) -> Iterator[ScopedPolicy]:
        yield from self._set.scoped
        waypoints = self._waypoints.identities.items() if self._has_allow else ()
        for policy in (*self._strict_users, *(exempt_policy(*it) for it in waypoints)):
            yield ScopedPolicy(policy, Named(str(policy)))

    def take(self, policies: WorkloadPolicies, registry: Registry, moved: Iterable[str]) -> tuple[Set[str], bool]:
        """Take the policies of a registry, of which the workloads `moved` have changed. Returns the workloads to which
        others apply, and whether `all` may be different."""
        before, waypoints = self._set, self._waypoints
        strict = self._strict_users.keys() | set()
        self._use(policies)
        touched = set(moved)
        if before is not self._set:
            touched |= registry.workloads.keys() | self._names.keys()
        if waypoints is not self._waypoints:
            was, now = waypoints.by_uid, self._waypoints.by_uid
            touched.update(uid for uid in was.keys() | now.keys() if was.get(uid) != now.get(uid))
        different = {uid for uid in touched if self._look_at(uid, registry.workloads.get(uid))}
        is_different = before is not self._set or waypoints is not self._waypoints
        return different, is_different or strict != self._strict_users.keys()

    def _use(self, policies: WorkloadPolicies) -> None:
        assert isinstance(policies.waypoints, WaypointsAhead)
        self._set: PolicySet = policies.set
        self._waypoints: WaypointsAhead = policies.waypoints
        self._by_name = [it for it in self._set.scoped if is_by_name(it.scope)]
        self._allowing = [
            it for it in self._set.scoped if it.policy.action is Action.ALLOW and not it.policy.is_dry_run
        ]
        self._has_allow = bool(self._allowing)

    def _look_at(self, uid: str, workload: Workload | None) -> bool:
        """Returns whether the names of its policies have changed."""
        before, now = self._names.pop(uid, ()), tuple[str, ...]()
        self._set_strict(uid, self._set.strictness.policy(workload) if workload is not None else None)
        if workload is not None:
            now = tuple(sorted(set(self._find(workload))))
        if now:
            self._names[uid] = now
        return now != before

    def _find(self, workload: Workload) -> Iterator[str]:
        yield from (str(it.policy) for it in self._by_name if it.scope.covers(workload))
        if (strict := self._strict.get(workload.uid)) is not None:
            yield str(strict)
        if any(it.scope.covers(workload) for it in self._allowing):
            yield from (str(exempt_policy(*it)) for it in self._waypoints.of(workload))

    def _set_strict(self, uid: str, policy: Policy | None) -> None:
        if (before := self._strict.pop(uid, None)) is not None:
            self._strict_users[before] -= 1
            if not self._strict_users[before]:
                del self._strict_users[before]
        if policy is not None:
            self._strict[uid] = policy
            self._strict_users[policy] += 1
