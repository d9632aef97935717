"""The annotation of a pod follows its redirection, also when the API server is away for a moment."""

import asyncio

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

PATH = "/api/v1/namespaces/default/pods/app"
POD = NodePod(uid="1", name="app", namespace="default", account="app", ips=("10.0.0.1",))
GONE = NodePod(uid="2", name="gone", namespace="default", account="app", ips=("10.0.0.1",))


def annotation(server: KubernetesServer) -> object:
    return server.objects[PATH]["metadata"].get("annotations", {}).get(REDIRECTION)


def test_the_annotation_follows_the_redirection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotating, "RETRY_SECONDS", 0.01)

    async def scenario() -> None:
        async with kubernetes_server() as server:
            server.put(PATH, {"metadata": {"annotations": {"other": "stays"}}})
            client = ApiClient(Credentials(server.address, Trust(), Given(Secrets())))
            its = Annotating(client)
            following = asyncio.ensure_future(its.follow())
            try:
                server.refusals.append((503, "ServiceUnavailable", {}))
                its.redirected(GONE, True)
                its.redirected(POD, True)
                await settled(lambda: annotation(server) == "enabled", 20)

                its.redirected(POD, False)
                await settled(lambda: annotation(server) is None, 20)
                assert server.objects[PATH]["metadata"]["annotations"] == {"other": "stays"}
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await client.close()

    run(scenario())
