"""Two nodes with a pod each: agents redirect the pods inside their namespaces, and ztunnels open their sockets there.

The ztunnels themselves are in the namespace of the tests, from which no pod can be reached.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import TunnelProtocol, Workload
from l4.identity.files import FolderStore
from l4.net.tasks import Tasks
from l4.node.agent import Agent, NodePod
from l4.node.receiver import Receiver
from l4.node.rules import PROBES_V4
from l4.telemetry.access_log import AccessLog
from l4.ztunnel.in_pod import InPods
from l4.ztunnel.metrics import ztunnel_metrics
from l4.ztunnel.node import Node
from l4.ztunnel.pods import Pods
from l4.ztunnel.traffic import Traffic
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.mesh import settled
from tests.kit.pod_network import GATEWAY, PodNetwork, namespace, needs_namespaces, pod_networks
from tests.kit.pod_network import ask as ask_from
from tests.kit.workloads import pod, registry, service

pytestmark = needs_namespaces

VIP = "10.96.0.10"


@dataclass
class KubernetesNode:
    """A node with its agent and its ztunnel. `concern` is why the ztunnel is not ready."""

    agent: Agent
    node: Node
    pods: Pods
    log: AccessLog
    log_path: Path
    concern: str = "not asked"

    def apply(self, known: Registry) -> None:
        self.node.registry.swap(known)
        self.pods.update(known)

    def told(self, sentence: str) -> None:
        self.concern = sentence

    def lines(self) -> list[str]:
        return self.log_path.read_text().splitlines()

    async def redirect(self, *pods: NodePod) -> None:
        self.agent.want(pods)
        await settled(lambda: self.agent.redirected == {it.uid for it in pods}, 20)


@asynccontextmanager
async def kubernetes_node(
    name: str, network: PodNetwork, folder: Path, pki: MeshPki, known: Registry
) -> AsyncIterator[KubernetesNode]:
    log_path, socket = folder / f"{name}.log", folder / name / "ztunnel.sock"
    log = AccessLog(str(log_path), flush_seconds=0.01)
    store = FolderStore(folder, pki.bundle_path, None, poll_seconds=0.01)
    node = Node(Holder(Registry()), store, Traffic(ztunnel_metrics("test"), log), Settings())
    in_pods = InPods(lambda: pods.update(node.registry.current), lambda *name: pods.serves(*name))
    pods = Pods(node, name, in_pods)
    it = KubernetesNode(Agent(socket, network.machine, proc=network.proc), node, pods, log, log_path)
    receiver = Receiver(socket, in_pods, it.told)
    tasks = Tasks()
    tasks.keep("announcing", it.agent.announcer.serve)
    tasks.keep("redirecting", it.agent.follow)
    tasks.keep("receiving", receiver.follow)
    it.apply(known)
    try:
        yield it
    finally:
        it.agent.want(())
        await settled(lambda: not it.agent.redirected)
        await tasks.close()
        await pods.drain(0)
        await asyncio.gather(*node.tasks, return_exceptions=True)
        log.close()


def node_pod(workload: Workload, network: PodNetwork) -> NodePod:
    account = workload.identity.service_account
    container = f"containerd://{network.container}"
    return NodePod(f"uid-{workload.name}", workload.name, workload.namespace, account, (network.ip,), (container,))


def without_hbone(workload: Workload) -> Workload:
    return replace(workload, tunnel_protocol=TunnelProtocol.NONE, is_redirected=False)


def test_a_request_between_redirected_pods_goes_through_hbone_and_after_that_plainly_again(tmp_path: Path) -> None:
    async def scenario(a: PodNetwork, b: PodNetwork) -> None:
        client, server = pod("client", a.ip, node="one"), pod("server", b.ip, node="two")
        pki = MeshPki(tmp_path)
        for it in (client, server):
            pki.write(it.identity)
        known = registry(client, server, service("echo", VIP, ports={80: 8080}, pods=[server]))
        async with AsyncExitStack() as stack:
            start = partial(kubernetes_node, folder=tmp_path, pki=pki, known=known)
            one = await stack.enter_async_context(start("one", a))
            two = await stack.enter_async_context(start("two", b))
            ask = partial(asyncio.to_thread, a.ask)
            said = f"{a.ip} said hello"
            assert await ask(b.ip, 8080, "hello") == said
            assert not a.connections(15001) + b.connections(15008)

            before = stack.enter_context(a.caller(b.ip, 8080))
            await settled(lambda: b.connections(8080) == [a.ip])
            await two.redirect(node_pod(server, b))
            assert await ask(b.ip, 8080, "hello") == said  # a client outside the mesh
            assert not b.connections(15008)

            probed = partial(asyncio.to_thread, ask_from, b.machine)
            assert await probed(b.ip, 8080, "hello") == f"{PROBES_V4} said hello"
            assert len(two.lines()) == 1  # a probe of the node does not pass the ztunnel

            await one.redirect(node_pod(client, a))
            assert (one.concern, two.concern) == ("", "")
            assert await ask(b.ip, 8080, "hello") == said  # the application still sees its client's address
            assert await ask(VIP, 80, "hello") == said
            assert b.connections(15008) == [a.ip]
            await settled(lambda: sum("outbound" in it for it in one.lines()) == 2)
            await settled(lambda: sum("inbound" in it for it in two.lines()) == 3)
            for line in (*one.lines(), *two.lines()[1:]):
                assert f'src.identity="{client.identity}"' in line
                assert f'dst.identity="{server.identity}"' in line

            assert await asyncio.to_thread(b.ask, VIP, 80, "to myself") == f"{b.ip} said to myself"
            # What was connected before stays as it is.
            assert before.communicate("goodbye", timeout=10)[0] == f"{a.ip} said goodbye"

            await two.redirect()
            for node in (one, two):
                node.apply(registry(client, without_hbone(server)))
            assert await ask(b.ip, 8080, "hello") == said
            assert not b.connections(15008)
            assert await probed(b.ip, 8080, "hello") == f"{GATEWAY} said hello"
            await one.redirect()
            assert await ask(b.ip, 8080, "hello") == said

    with pod_networks("10.99.0.1", "10.99.0.2") as (a, b), b.server(8080), namespace() as (elsewhere, _):
        run(scenario(replace(a, machine=elsewhere), b), 60)
