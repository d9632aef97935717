"""The agent redirects pods that are wanted and served, and tells what it waits for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from l4.net.network import Network
from l4.net.tasks import Tasks
from l4.node.agent import Agent, NodePod, is_wanted
from l4.node.receiver import Receiver
from l4.ztunnel.in_pod import InPods
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.pod_network import PodNetwork, needs_namespaces, pod_networks

WAYPOINT = {"gateway.istio.io/managed": "istio.io-mesh-controller"}
AMBIENT, NONE = {"istio.io/dataplane-mode": "ambient"}, {"istio.io/dataplane-mode": "none"}


@pytest.mark.parametrize(
    ("labels", "namespace_labels", "is_host_network", "is_redirected"),
    [
        ({}, AMBIENT, False, True),
        (AMBIENT, {}, False, True),
        (NONE, AMBIENT, False, False),
        (AMBIENT, NONE, False, True),
        ({}, {}, False, False),
        (AMBIENT, AMBIENT, True, False),
        (WAYPOINT, AMBIENT, False, False),
        (WAYPOINT | AMBIENT, {}, False, True),
    ],
)
def test_the_pods_label_goes_before_its_namespaces(
    labels: dict[str, str], namespace_labels: dict[str, str], *, is_host_network: bool, is_redirected: bool
) -> None:
    assert is_wanted(labels, namespace_labels, is_host_network=is_host_network) is is_redirected


def has_rules(network: Network) -> bool:
    return "pywaypoint" in network.run(["nft", "list", "tables"])


def wanted(network: PodNetwork, container: str = "") -> NodePod:
    containers = (f"containerd://{container or network.container}",)
    return NodePod("uid", "web", "default", "web", (network.ip,), containers)


@asynccontextmanager
async def agent(folder: Path, it: PodNetwork, told: list[tuple[str, bool]]) -> AsyncIterator[Agent]:
    def tell(pod: NodePod, is_redirected: bool) -> None:
        told.append((pod.name, is_redirected))

    agent = Agent(folder / "ztunnel.sock", it.machine, tell, it.proc)
    tasks = Tasks()
    tasks.keep("announcing", agent.announcer.serve)
    tasks.keep("redirecting", agent.follow)
    try:
        yield agent
    finally:
        await tasks.close()


@asynccontextmanager
async def ztunnel(folder: Path, refused: set[str]) -> AsyncIterator[InPods]:
    pods = InPods(lambda: None, lambda _, name: name not in refused)
    following = asyncio.create_task(Receiver(folder / "ztunnel.sock", pods, lambda _: None).follow())
    try:
        yield pods
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        for uid in pods.uids():
            pods.remove(uid)


@needs_namespaces
def test_a_pod_is_redirected_once_the_ztunnel_serves_it_until_it_is_no_longer_wanted(tmp_path: Path) -> None:
    async def scenario(pod: PodNetwork) -> None:
        told: list[tuple[str, bool]] = []
        async with agent(tmp_path, pod, told) as it:
            it.want([wanted(pod)])
            await settled(lambda: "the ztunnel does not serve it" in it.lack)
            refused = {"web"}
            async with ztunnel(tmp_path, refused) as pods:
                await settled(lambda: pods.uids() == {"uid"})
                assert not has_rules(pod.network)
                refused.clear()
                await settled(lambda: it.redirected == {"uid"})
                assert has_rules(pod.network)
                assert has_rules(pod.machine)
                await settled(lambda: not it.lack)
            await asyncio.sleep(0)
            assert has_rules(pod.network)  # without a ztunnel its connections fail, and do not pass it by
            it.want([])
            await settled(lambda: not it.redirected and told == [("web", True), ("web", False)])
            await settled(lambda: not has_rules(pod.machine))
            assert not has_rules(pod.network)

    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod))


@needs_namespaces
def test_another_agent_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    async def scenario(pod: PodNetwork) -> None:
        async with ztunnel(tmp_path, set()):
            for _ in range(2):
                async with agent(tmp_path, pod, []) as it:
                    it.want([wanted(pod)])
                    await settled(lambda it=it: it.redirected == {"uid"}, 20)
                assert has_rules(pod.network)
            told: list[tuple[str, bool]] = []
            async with agent(tmp_path, pod, told) as it:  # the label went while no agent ran
                it.want([], [wanted(pod)])
                await settled(lambda: told == [("web", False)], 20)
            assert not has_rules(pod.network)

    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod), 60)


@needs_namespaces
def test_a_new_namespace_of_a_pod_is_redirected_in_its_place(tmp_path: Path) -> None:
    async def scenario(first: PodNetwork, second: PodNetwork) -> None:
        async with agent(tmp_path, first, []) as it, ztunnel(tmp_path, set()):
            it.want([wanted(first)])
            await settled(lambda: has_rules(first.network), 10)
            it.want([wanted(second)])
            await settled(lambda: has_rules(second.network) and it.redirected == {"uid"}, 10)

    with pod_networks("10.99.0.1", "10.99.0.2") as (first, second):
        run(scenario(first, second))


@needs_namespaces
def test_a_pod_without_a_process_is_waited_for(tmp_path: Path) -> None:
    async def scenario(pod: PodNetwork) -> None:
        async with agent(tmp_path, pod, []) as it, ztunnel(tmp_path, set()):
            it.want([wanted(pod, "0" * 64)])
            await settled(lambda: it.lack == "pod default/web has no process yet")
            it.want([wanted(pod)])
            await settled(lambda: it.redirected == {"uid"} and not it.lack, 10)

    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod))
