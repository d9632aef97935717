"""The annotation of a pod follows its redirection, whatever the API server says in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from l4.discovery.label_names import REDIRECTION
from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import Credentials, Secrets, Trust
from l4.node import annotating
from l4.node.agent import NodePod
from l4.node.annotating import Annotating
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.kit.mesh import settled
from tests.l4.kubernetes.test_client import Given


def pod(name: str, uid: str) -> NodePod:
    return NodePod(uid=uid, name=name, namespace="default", account="app", ips=("10.0.0.1",))


def path(name: str) -> str:
    return f"/api/v1/namespaces/default/pods/{name}"


@dataclass
class World:
    server: KubernetesServer
    annotating: Annotating
    concerns: list[str] = field(default_factory=list)

    def put(self, name: str, uid: str) -> None:
        self.server.put(path(name), {"metadata": {"uid": uid, "annotations": {"other": "stays"}}})

    def annotation(self, name: str) -> object:
        return self.server.objects[path(name)]["metadata"]["annotations"].get(REDIRECTION)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with kubernetes_server() as server:
        client = ApiClient(Credentials(server.address, Trust(), Given(Secrets())))
        it = World(server, Annotating(client))
        following = asyncio.ensure_future(it.annotating.follow(it.concerns.append))
        try:
            yield it
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await client.close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotating, "RETRY_SECONDS", 0.01)


def test_the_annotation_follows_the_redirection() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.put("app", "1")
            it.annotating.redirected(pod("app", "1"), True)
            await settled(lambda: it.annotation("app") == "enabled", 20)

            it.annotating.redirected(pod("app", "1"), False)
            await settled(lambda: it.annotation("app") is None, 20)
            assert it.server.objects[path("app")]["metadata"]["annotations"] == {"other": "stays"}

    run(scenario())


def test_a_pod_that_is_refused_holds_up_no_other_and_is_a_concern_until_it_is_written() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.put("first", "1")
            it.put("second", "2")
            it.server.refusals += [(503, "ServiceUnavailable", {})]
            it.annotating.redirected(pod("first", "1"), True)
            it.annotating.redirected(pod("second", "2"), True)
            await settled(lambda: it.annotation("first") == it.annotation("second") == "enabled", 20)
            await settled(lambda: it.concerns[-1] == "", 20)

            assert "default/first cannot be written" in it.concerns[0]
            assert len([line for line in it.server.requests if line.split("?")[0].endswith("second/status")]) == 1

    run(scenario())


def test_another_pod_of_the_same_name_is_left_alone() -> None:
    async def scenario() -> None:
        async with world() as it:
            it.put("app", "new")
            it.annotating.redirected(pod("app", "old"), True)
            it.annotating.redirected(pod("gone", "2"), True)
            await settled(lambda: bool(it.concerns), 20)

            assert it.concerns == [""]
            assert it.annotation("app") is None

    run(scenario())
