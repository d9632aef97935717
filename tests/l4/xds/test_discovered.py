"""What arrives becomes registry and policies: who is allowed, and what is told."""

from typing import Any

from l4._proto import authorization_pb2 as policies_wire
from l4._proto import workload_pb2 as wire
from l4.config.codes import DocumentCode
from l4.config.documents import ObjectKey, ObjectOrigin, Problem
from l4.config.doubts import Doubt
from l4.discovery.codes import DiscoveryCode
from l4.discovery.mesh import Mesh
from l4.discovery.workload_policies import ScopedPolicy
from l4.xds import addresses, authorizations
from l4.xds.addresses import Known
from l4.xds.discovered import Arrived, DiscoveredMesh, MeshState
from policies.access import Access
from policies.attributes import Peer
from tests.kit.workloads import NODE

UID = "c//Pod/ns/a"


def pod(*policies: str, node: str = NODE, namespace: str = "ns", **more: Any) -> dict[str, Known]:
    uid = f"c//Pod/{namespace}/a"
    its = wire.Workload(uid=uid, name="a", namespace=namespace, node=node, authorization_policies=policies, **more)
    return {uid: addresses.convert(wire.Address(workload=its).SerializeToString(), Mesh())}


def policy(name: str, action: Any = policies_wire.DENY) -> dict[str, ScopedPolicy]:
    namespace, _, own = name.partition("/")
    its = policies_wire.Authorization(
        name=own,
        namespace=namespace,
        scope=policies_wire.WORKLOAD_SELECTOR,
        action=action,
        rules=[policies_wire.Rule()],
    )
    return {name: authorizations.convert(its.SerializeToString())}


def mesh() -> DiscoveredMesh:
    return DiscoveredMesh(Mesh(), lambda it: it.node == NODE)


def arrived(
    changed: dict[str, Known] | None = None,
    policies: dict[str, ScopedPolicy] | None = None,
    gone_policies: tuple[str, ...] = (),
    doubts: tuple[Doubt, ...] = (),
) -> Arrived:
    return Arrived(changed or {}, (), policies or {}, gone_policies, doubts)


def is_denied(state: MeshState, uid: str = UID) -> bool:
    its = state.policies.of(state.registry.workloads[uid])
    return its is not None and not its.judge(Access(Peer(None, "10.0.0.9", 1), ("10.0.0.1",), 80)).is_allowed


def doubt(name: str, *, namespace: str | None, has_last_good: bool = False) -> Doubt:
    key = ObjectKey("istio.security", "Authorization", "", name)
    problem = Problem(ObjectOrigin(key, "none"), str(key), "", "it is odd", DocumentCode.INVALID)
    return Doubt(problem, has_last_good, namespace, is_policy=namespace is not None)


def test_a_policy_applies_to_the_workloads_that_name_it() -> None:
    state = mesh().take(arrived(pod("ns/p") | pod(namespace="other"), policy("ns/p")))

    assert is_denied(state)
    assert not is_denied(state, "c//Pod/other/a")


def test_policies_come_change_and_go() -> None:
    it = mesh()
    assert not is_denied(it.take(arrived(pod("ns/p"))))
    assert is_denied(it.take(arrived(policies=policy("ns/p"))))
    assert not is_denied(it.take(arrived(policies=policy("ns/p", policies_wire.ALLOW))))
    assert is_denied(it.take(arrived(policies=policy("ns/p"))))
    assert not is_denied(it.take(arrived(gone_policies=("ns/p",))))


def test_a_workload_that_is_selected_later_is_judged_anew() -> None:
    it = mesh()
    it.take(arrived(pod(), policy("ns/p")))

    state = it.take(arrived(pod("ns/p")))

    assert state.update is not None
    assert is_denied(state)


def test_without_a_change_of_policies_or_own_workloads_the_policies_are_the_same_object() -> None:
    it = mesh()
    before = it.take(arrived(pod("ns/p"), policy("ns/p"))).policies

    assert it.take(arrived(pod(namespace="other", node="elsewhere"))).policies is before
    assert it.take(arrived(policies=policy("ns/q"))).policies is not before


def test_a_policy_that_was_not_sent_is_told_for_workloads_of_this_node() -> None:
    it = mesh()
    state = it.take(arrived(pod("ns/p") | pod("x/q", namespace="other", node="elsewhere")))

    (problem,) = state.problems
    assert (problem.subject, problem.code) == ("Authorization ns/p", DiscoveryCode.POLICY_NOT_ENFORCED)
    assert it.take(arrived(policies=policy("ns/p"))).problems == frozenset()


def test_a_policy_that_cannot_be_understood_denies_its_namespace_until_it_can() -> None:
    it = mesh()
    state = it.take(arrived(pod() | pod(namespace="other"), doubts=(doubt("ns/p", namespace="ns"),)))

    assert is_denied(state)
    assert not is_denied(state, "c//Pod/other/a")
    assert not state.is_understood
    assert [str(it.subject) for it in state.problems] == ["Authorization ns/p"]

    state = it.take(arrived(policies=policy("ns/p")))
    assert not is_denied(state)
    assert state.is_understood


def test_a_doubt_with_a_last_good_version_denies_nothing() -> None:
    it = mesh()
    it.take(arrived(pod()))

    state = it.take(arrived(doubts=(doubt("ns/p", namespace="ns", has_last_good=True),)))

    assert not is_denied(state)
    assert state.is_understood


def test_a_waypoint_gets_no_more_than_the_policies_allow() -> None:
    waypoint = wire.GatewayAddress(address=wire.NetworkAddress(address=bytes([10, 0, 0, 9])))
    its = pod("ns/p", waypoint=waypoint)
    its |= {
        "w": addresses.convert(
            wire.Address(
                workload=wire.Workload(uid="w", namespace="ns", addresses=[bytes([10, 0, 0, 9])])
            ).SerializeToString(),
            Mesh(),
        )
    }
    nobody = policies_wire.Authorization(
        name="p", namespace="ns", scope=policies_wire.WORKLOAD_SELECTOR, action=policies_wire.ALLOW
    )
    it = mesh()
    state = it.take(arrived(its, {"ns/p": authorizations.convert(nobody.SerializeToString())}))

    authorization = state.policies.of(state.registry.workloads[UID])
    assert authorization is not None
    peer = Peer(state.registry.workloads["w"].identity, "10.0.0.9", 1)
    assert not authorization.judge(Access(peer, ("10.0.0.1",), 80)).is_allowed
