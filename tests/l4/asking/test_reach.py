"""Targets of commands: an address, pods of an emulated cluster, and the laptop mesh."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from l4.admin import OperatorAddresses, OperatorPorts
from l4.asking import laptop
from l4.asking.admin import CannotAsk
from l4.asking.common import status_of
from l4.asking.laptop import Proxy
from l4.asking.reach import Target, reached, reached_one
from l4.telemetry.metrics import MeshMetrics
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from waypoint.mesh.running import AlreadyRunning, only_one

ANYWHERE = OperatorAddresses(("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.1", 0))
PODS = "/api/v1/namespaces/shop/pods"
GATEWAY = "gateway.networking.k8s.io/gateway-name"


async def _dump() -> object:
    return {}


@asynccontextmanager
async def program() -> AsyncIterator[tuple[str, int]]:
    """The administration port of a running program."""
    ports = OperatorPorts(MeshMetrics("proxy", "1"), (), _dump, lambda: None)
    await ports.start(ANYWHERE)
    try:
        yield ports.addresses.admin
    finally:
        await ports.close()


@pytest.fixture
def here(tmp_path: Path) -> Target:
    """A target of a user who runs no laptop mesh."""
    return Target("waypoint", environment={"XDG_RUNTIME_DIR": str(tmp_path)})


@pytest.fixture
def laptop_mesh(tmp_path: Path) -> Iterator[Path]:
    place = laptop.folder({"XDG_RUNTIME_DIR": str(tmp_path)})
    with only_one(place):
        yield place


def proxy(name: str, admin: str, kind: str = "waypoint") -> Proxy:
    return Proxy(kind, name, admin, "", "")


def names_of(target: Target) -> list[str]:
    async def scenario() -> list[str]:
        async with reached(target) as admins:
            return [it.name for it in admins]

    return run(scenario())


def refusal(target: Target) -> str:
    with pytest.raises(CannotAsk) as caught:
        names_of(target)
    return str(caught.value)


def test_an_address_is_asked_as_it_is(here: Target) -> None:
    async def scenario() -> None:
        async with program() as address, reached_one(replace(here, admin=address)) as admin:
            assert (await admin.json("/status"))["ready"] is True
            with pytest.raises(CannotAsk, match="it has no page /routes; check that it is the administration port"):
                await admin.json("/routes")
            with pytest.raises(CannotAsk, match=r"is not one of debug, .*\(400\)"):
                await admin.post("/logging", {"level": "loud"})

    run(scenario())


def test_without_anything_the_usual_port_of_this_machine_is_asked_and_says_what_to_do(here: Target) -> None:
    async def scenario() -> None:
        async with reached_one(here) as admin:
            assert admin.name == "127.0.0.1:15000"
            with pytest.raises(CannotAsk, match="no laptop mesh is running either; give --admin"):
                await admin.json("/status")

    run(scenario())


def test_the_proxies_of_the_running_laptop_mesh_are_found(here: Target, laptop_mesh: Path) -> None:
    laptop.record(laptop_mesh, [proxy("default/waypoint", "127.0.0.1:1"), proxy("ztunnel", "127.0.0.1:2", "ztunnel")])

    assert names_of(here) == ["default/waypoint"]
    assert names_of(replace(here, name="waypoint")) == ["default/waypoint"]
    assert names_of(replace(here, program="ztunnel")) == ["ztunnel"]
    assert refusal(replace(here, name="other")) == "the laptop mesh has no waypoint other; it has default/waypoint"


def test_what_a_crashed_mesh_left_is_not_taken_for_a_running_one(here: Target, tmp_path: Path) -> None:
    place = laptop.folder({"XDG_RUNTIME_DIR": str(tmp_path)})
    with only_one(place), pytest.raises(AlreadyRunning), only_one(place):
        pass
    laptop.record(place, [proxy("default/waypoint", "127.0.0.1:1")])

    assert names_of(here) == ["127.0.0.1:15000"]
    assert "no laptop mesh is running that could have waypoint" in refusal(replace(here, name="waypoint"))


def test_a_command_for_one_program_names_the_others(here: Target, laptop_mesh: Path) -> None:
    laptop.record(laptop_mesh, [proxy("default/a", "127.0.0.1:1"), proxy("default/b", "127.0.0.1:2")])

    async def scenario() -> None:
        async with reached_one(here):
            raise AssertionError("unreachable")

    with pytest.raises(CannotAsk, match="there are several, name one: default/a, default/b"):
        run(scenario())


def test_a_program_without_an_answer_does_not_hide_the_others(here: Target, laptop_mesh: Path) -> None:
    async def scenario() -> None:
        async with program() as (host, port):
            laptop.record(laptop_mesh, [proxy("default/a", f"{host}:{port}"), proxy("default/b", "127.0.0.1:1")])
            answer = await asyncio.to_thread(
                CliRunner().invoke, status_of("waypoint"), env={"XDG_RUNTIME_DIR": str(laptop_mesh.parent)}
            )

            assert answer.exit_code == 1
            assert answer.output.startswith("default/a: ready\n")
            assert (
                "\n\ndefault/b: not ready\n  ! the administration port of default/b cannot be reached" in answer.output
            )

    run(scenario())


# -- a cluster ---------------------------------------------------------------------------------------------------------


def put_pod(server: KubernetesServer, name: str, *, phase: str = "Running", node: str = "node-a") -> None:
    labels = {"app": "waypoint", GATEWAY: "waypoint"}
    content = {"metadata": {"labels": labels}, "spec": {"nodeName": node}, "status": {"phase": phase}}
    server.put(f"{PODS}/{name}", content)


@asynccontextmanager
async def cluster(folder: Path, here: Target) -> AsyncIterator[tuple[KubernetesServer, Target]]:
    """An API server with a Deployment of two running pods, and a target in its namespace."""
    async with kubernetes_server() as server:
        server.served |= {"pods", "deployments"}
        server.put(
            "/apis/apps/v1/namespaces/shop/deployments/waypoint",
            {"spec": {"selector": {"matchLabels": {"app": "waypoint"}}}},
        )
        put_pod(server, "waypoint-1")
        put_pod(server, "waypoint-2", node="node-b")
        put_pod(server, "waypoint-3", phase="Pending")
        place = {"server": server.address}
        content = {
            "clusters": [{"name": "it", "cluster": place}],
            "contexts": [{"name": "it", "context": {"cluster": "it"}}],
            "current-context": "it",
        }
        (folder / "kubeconfig").write_text(yaml.safe_dump(content))
        yield server, replace(here, namespace="shop", kubeconfig=folder / "kubeconfig")


@pytest.mark.parametrize(
    ("name", "node", "found"),
    [
        ("deploy/waypoint", "", ["shop/waypoint-1", "shop/waypoint-2"]),
        ("gateway/waypoint", "", ["shop/waypoint-1", "shop/waypoint-2"]),
        ("", "", ["shop/waypoint-1", "shop/waypoint-2"]),
        ("deploy/waypoint", "node-b", ["shop/waypoint-2"]),
        ("waypoint-1", "", ["shop/waypoint-1"]),
        ("pod/waypoint-2", "", ["shop/waypoint-2"]),
    ],
)
def test_pods_of_a_cluster_are_found_by_what_owns_them(
    tmp_path: Path, here: Target, name: str, node: str, found: list[str]
) -> None:
    async def scenario() -> None:
        async with (
            cluster(tmp_path, here) as (_, target),
            reached(replace(target, name=name, node=node)) as admins,
        ):
            assert [it.name for it in admins] == found

    run(scenario())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("deploy/other", "NotFound"),
        ("gateway/other", "no pod of gateway/other runs in namespace shop"),
        ("waypoint-3", "no pod of waypoint-3 runs in namespace shop"),
        ("job/waypoint", "the kind is none of deploy, "),
    ],
)
def test_a_name_without_running_pods_is_told(tmp_path: Path, here: Target, name: str, said: str) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, here) as (_, target):
            with pytest.raises(CannotAsk, match=said):
                async with reached(replace(target, name=name)):
                    pass

    run(scenario())


def test_a_pod_is_asked_through_the_api_server(tmp_path: Path, here: Target) -> None:
    async def scenario() -> None:
        async with (
            program() as address,
            cluster(tmp_path, here) as (server, target),
            reached_one(replace(target, name="waypoint-1")) as admin,
        ):
            server.forwards[f"{PODS}/waypoint-1"] = address
            assert (await admin.json("/status"))["ready"] is True
            server.forwards[f"{PODS}/waypoint-1"] = ("127.0.0.1", 0)
            with pytest.raises(CannotAsk, match="waypoint-1/portforward: connection refused"):
                await admin.json("/status")

    run(scenario())
