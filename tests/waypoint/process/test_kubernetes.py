"""A waypoint follows an API server over HTTP: objects, endpoints that change, and a server that goes away."""

import asyncio
from pathlib import Path
from typing import Any

import yaml

from l4.config.manifest import CLUSTER_SCOPED
from l4.kubernetes.client import ApiClient
from l4.kubernetes.credentials import Credentials, Secrets, Trust
from l4.kubernetes.source import KubernetesSource
from l4.net.tasks import Tasks
from l4.readiness import Readiness
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.kit.mesh import GATEWAY, Mesh, address, manifests, mesh, settled
from tests.kit.origin import answering, origin
from tests.l4.kubernetes.test_client import Given
from waypoint.config.kinds import KINDS
from waypoint.config.pipeline import Pipeline
from waypoint.process.following import Following


def apply(server: KubernetesServer, text: str) -> list[str]:
    """Like `kubectl apply`; the paths of the objects."""
    objects = {_path(server, it): it for it in yaml.safe_load_all(text)}
    for path, content in objects.items():
        server.put(path, content)
    return list(objects)


def _path(server: KubernetesServer, content: dict[str, Any]) -> str:
    version, kind = content["apiVersion"], content["kind"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    objects = server.serve(group, kind, is_namespaced=kind not in CLUSTER_SCOPED)
    if kind not in CLUSTER_SCOPED:
        objects = f"{group}/namespaces/default/{objects.rpartition('/')[2]}"
    return f"{objects}/{content['metadata']['name']}"


def plain(waypoint: str, vip: str, pods: dict[str, str]) -> str:
    """Pods without a ztunnel before them."""
    text = manifests(waypoint=waypoint, vip=vip, pods=pods)
    return text.replace("ambient.istio.io/redirection: enabled", "")


async def until_answered(it: Mesh, vip: str, body: bytes) -> None:
    async with asyncio.timeout(20):
        while not (await it.get(f"{vip}:9080")).endswith(body):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_requests_follow_what_the_api_server_says_and_go_on_while_it_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, one, two = (address() for _ in range(4))
        async with (
            kubernetes_server() as server,
            mesh(tmp_path, "", waypoint) as it,
            origin(one, answering(b"one")),
            origin(two, answering(b"two")),
        ):
            paths = apply(server, plain(waypoint, vip, {"app-1": one}))
            client = ApiClient(Credentials(server.address, Trust(), Given(Secrets())))
            source, readiness, tasks = KubernetesSource(client, KINDS), Readiness({"configuration"}), Tasks()
            following = Following(
                source,
                Pipeline(GATEWAY, it.settings, waypoint),
                put_in_force=it.worker.put_in_force,
                readiness=readiness,
                metrics=it.metrics,
            )
            await following.begin()
            tasks.keep("following the configuration", following.watch)
            try:
                assert readiness.is_ready
                await until_answered(it, vip, b"one")

                apply(server, plain(waypoint, vip, {"app-2": two}))
                server.remove(next(path for path in paths if path.endswith("pods/app-1")))
                await until_answered(it, vip, b"two")

                server.forbidden.update(server.served)
                server.cut()
                await settled(lambda: bool(readiness.concerns), 20)
                await until_answered(it, vip, b"two")
                assert readiness.is_ready

                server.forbidden.clear()
                await settled(lambda: not readiness.concerns, 20)
            finally:
                await tasks.close()
                await source.close()

    run(scenario(), 60)
