"""The mesh as a control plane describes it: addresses and authorization policies become registry and policies."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from l4.config.documents import ObjectKey, ObjectOrigin, Problem
from l4.config.doubts import Doubt, Understanding
from l4.discovery.codes import DiscoveryCode
from l4.discovery.index import Update
from l4.discovery.mesh import Mesh
from l4.discovery.policy_objects import missing_policies
from l4.discovery.registry import Registry
from l4.discovery.waypoints_ahead import Concerns, NoWaypoints
from l4.discovery.workload_policies import PolicySet, ScopedPolicy, WorkloadPolicies
from l4.xds.address_index import AddressIndex
from l4.xds.addresses import Known


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has arrived since the last time, and all doubts and problems."""

    changed: Mapping[str, Known]
    gone: Collection[str]
    policies: Mapping[str, ScopedPolicy]
    gone_policies: Collection[str]
    doubts: tuple[Doubt, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class MeshState:
    """`update` is the difference to the state before; None if everything may differ.

    `is_understood`: everything was understood once.
    """

    registry: Registry
    update: Update | None
    policies: WorkloadPolicies
    problems: frozenset[Problem]
    doubts: tuple[Doubt, ...]
    is_understood: bool


class DiscoveredMesh:
    """Makes states of what arrives. `concerns` selects the workloads whose policies matter."""

    def __init__(self, mesh: Mesh, concerns: Concerns) -> None:
        self._index = AddressIndex(mesh)
        self._concerns = concerns
        self._known: dict[str, ScopedPolicy] = {}
        self._understanding = Understanding()
        self._denied: frozenset[str] = frozenset()
        self._policies: WorkloadPolicies | None = None
        self._unknown: frozenset[Problem] = frozenset()

    def take(self, arrived: Arrived) -> MeshState:
        """After an exception, the next call makes everything anew."""
        before, self._policies = self._policies, None
        for name in arrived.gone_policies:
            self._known.pop(name, None)
        self._known.update(arrived.policies)
        update = self._index.take(arrived.changed, arrived.gone)
        registry = self._index.registry
        denied = self._understanding.take(arrived.doubts)
        has_new_policies = bool(arrived.policies or arrived.gone_policies) or denied != self._denied
        if before is None or has_new_policies:
            scoped = [self._known[name] for name in sorted(self._known)]
            scoped += missing_policies(denied)
            policies = WorkloadPolicies(PolicySet(tuple(scoped)), NoWaypoints(self._concerns))
        elif update is None:
            policies = WorkloadPolicies(before.set, NoWaypoints(self._concerns))
        else:
            policies = before.follow(update)
        if policies is not before:
            self._unknown = frozenset(self._find_unknown(registry))
        self._denied, self._policies = denied, policies
        told = {*registry.problems, *arrived.problems, *(it.problem for it in arrived.doubts), *self._unknown}
        is_understood = self._understanding.is_complete
        return MeshState(registry, update, policies, frozenset(told), arrived.doubts, is_understood)

    def _find_unknown(self, registry: Registry) -> Iterator[Problem]:
        """Yield a problem for each policy that a workload refers to and that the control plane has not sent."""
        workloads = filter(self._concerns, registry.workloads.values())
        for name in sorted({name for it in workloads for name in it.authorization_policies} - self._known.keys()):
            key = ObjectKey("istio.security", "Authorization", "", name)
            sentence = "workloads of this node refer to it, but the control plane has not sent it; it protects nothing"
            yield Problem(ObjectOrigin(key, "none"), str(key), "", sentence, DiscoveryCode.POLICY_NOT_ENFORCED)
