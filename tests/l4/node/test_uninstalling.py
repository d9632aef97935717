"""The pods of a node are released when the API server says that the agent's DaemonSet is gone, and not before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from l4.discovery.label_names import REDIRECTION
from l4.kubernetes import reflector
from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import Credentials, Secrets, Trust
from l4.kubernetes.reflector import Key
from l4.net.tasks import Tasks
from l4.node import annotating, uninstalling
from l4.node.agent import Agent
from l4.node.annotating import Annotating
from l4.node.uninstalling import Uninstalling
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, Object, kubernetes_server
from tests.kit.mesh import settled
from tests.kit.pod_network import PodNetwork, needs_namespaces, pod_networks
from tests.l4.kubernetes.test_client import Given
from tests.l4.node.test_agent import has_rules, wanted, ztunnel

pytestmark = needs_namespaces

DAEMON_SET = "/apis/apps/v1/namespaces/mesh/daemonsets/agent"
OTHER = "/apis/apps/v1/namespaces/mesh/daemonsets/other"
POD = "/api/v1/namespaces/default/pods/web"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotating, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(reflector, "MAX_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(uninstalling, "NOTICE_SECONDS", 0.1)


@dataclass
class World:
    """An agent of the DaemonSet mesh/agent, with a pod that is redirected."""

    server: KubernetesServer
    pod: PodNetwork
    agent: Agent
    uninstalling: Uninstalling
    concerns: list[str] = field(default_factory=list)

    @property
    def annotation(self) -> object:
        return self.server.objects[POD]["metadata"]["annotations"].get(REDIRECTION)

    async def is_redirected(self) -> None:
        await settled(lambda: has_rules(self.pod.network) and self.annotation == "enabled", 20)

    async def is_released(self) -> None:
        await settled(lambda: not has_rules(self.pod.network), 20)

    async def is_watching(self) -> None:
        await settled(lambda: any("daemonsets" in it.path for it, _ in self.server.watches), 20)


@asynccontextmanager
async def world(folder: Path, pod: PodNetwork, daemon_set: Object | None) -> AsyncIterator[World]:
    async with kubernetes_server() as server, ztunnel(folder, set()):
        server.served |= {"daemonsets", "pods"}
        server.put(OTHER)
        server.put(POD, {"metadata": {"uid": "uid", "annotations": {"other": "stays"}}})
        if daemon_set is not None:
            server.put(DAEMON_SET, daemon_set)
        client = ApiClient(Credentials(server.address, Trust(), Given(Secrets())), request_seconds=5)
        annotator = Annotating(client)
        agent = Agent(folder / "ztunnel.sock", pod.machine, annotator.redirected, pod.proc)
        concerns: list[str] = []
        it = Uninstalling(client, Key("mesh", "agent"), agent, annotator, concerns.append)
        tasks = Tasks()
        tasks.keep("announcing", agent.announcer.serve)
        tasks.keep("redirecting", agent.follow)
        tasks.keep("annotating", lambda: annotator.follow(lambda _: None))
        tasks.keep("watching", it.follow)
        it.want([wanted(pod)])
        try:
            yield World(server, pod, agent, it, concerns)
        finally:
            await tasks.close()
            await client.close()


def test_pods_are_released_once_the_daemon_set_is_deleted_and_redirected_again_once_it_is_back(tmp_path: Path) -> None:
    async def scenario(pod: PodNetwork) -> None:
        async with world(tmp_path, pod, {}) as it:
            await it.is_redirected()
            await it.is_watching()
            it.server.put(DAEMON_SET, {"spec": {"changed": True}})
            it.server.remove(OTHER)

            it.server.remove(DAEMON_SET)
            await it.is_released()
            await settled(lambda: it.annotation is None, 20)
            assert it.concerns == ["DaemonSet mesh/agent is gone: no pod is redirected; see --daemon-set"]
            it.uninstalling.want([wanted(pod)])  # something else of the pod has changed
            await it.agent.done()
            assert not has_rules(pod.network)

            it.server.put(DAEMON_SET)
            await it.is_redirected()
            assert it.concerns[-1] == ""

    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod), 60)


def test_a_daemon_set_that_is_being_deleted_or_was_never_there_counts_as_gone(tmp_path: Path) -> None:
    async def scenario(pod: PodNetwork, daemon_set: Object | None) -> None:
        async with world(tmp_path, pod, daemon_set) as it:
            await settled(lambda: it.uninstalling.is_begun, 20)
            await it.agent.done()
            assert not has_rules(pod.network)

    for deleted in ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, None):
        with pod_networks("10.99.0.1") as (pod,):
            run(scenario(pod, deleted), 60)


def test_rights_that_are_deleted_as_well_keep_no_pod_from_being_released(tmp_path: Path) -> None:
    async def scenario(pod: PodNetwork) -> None:
        async with world(tmp_path, pod, {}) as it:
            await it.is_redirected()
            await it.is_watching()

            it.server.forbidden |= {"pods", "daemonsets"}
            it.server.remove(DAEMON_SET)
            await it.uninstalling.leave()

            assert not has_rules(pod.network)
            assert it.annotation == "enabled"
            assert f"PATCH {POD}/status" in it.server.requests[-1]

    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod), 60)


@pytest.mark.parametrize("failure", ["forbidden", "unauthorized", "not served", "hanging", "cut"])
def test_a_daemon_set_that_cannot_be_looked_at_is_not_gone(tmp_path: Path, failure: str) -> None:
    async def scenario(pod: PodNetwork) -> None:
        async with world(tmp_path, pod, {}) as it:
            await it.is_redirected()
            await it.is_watching()
            asked = len(it.server.requests)
            match failure:
                case "forbidden":
                    it.server.forbidden.add("daemonsets")
                case "unauthorized":
                    it.server.tokens.add("another")
                case "not served":
                    it.server.served.remove("daemonsets")
                case "hanging":
                    it.server.hangs = asyncio.Event()
            if failure != "cut":
                it.server.remove(DAEMON_SET, is_told=False)
            it.server.forget()  # the watch cannot go on: everything is listed again
            it.server.cut()
            await settled(lambda: len(it.server.requests) > asked, 20)
            await it.uninstalling.leave()

            assert not it.uninstalling.is_begun
            assert has_rules(pod.network)

    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod), 60)


def test_a_deletion_that_is_told_only_after_sigterm_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(pod: PodNetwork) -> None:
        async with world(tmp_path, pod, {}) as it:
            await it.is_redirected()
            await it.is_watching()

            leaving = asyncio.ensure_future(it.uninstalling.leave())
            await asyncio.sleep(0.1)
            it.server.remove(DAEMON_SET)
            await leaving

            assert not has_rules(pod.network)
            assert it.annotation is None

    monkeypatch.setattr(uninstalling, "NOTICE_SECONDS", 10)
    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod), 60)


def test_an_agent_that_cannot_release_a_pod_ends_after_its_deadline_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(pod: PodNetwork) -> None:
        async with world(tmp_path, pod, {}) as it:
            await it.is_redirected()
            await it.is_watching()
            monkeypatch.setenv("PATH", "/nowhere")  # without nft

            it.server.remove(DAEMON_SET)
            await it.uninstalling.leave()

            monkeypatch.undo()
            assert has_rules(pod.network)
            assert "the agent ends with 1 pods redirected after 1 s: pod default/web is still redirected" in caplog.text

    monkeypatch.setattr(uninstalling, "LEAVE_SECONDS", 1)
    with pod_networks("10.99.0.1") as (pod,):
        run(scenario(pod), 60)
