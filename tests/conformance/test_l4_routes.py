"""TCPRoute and TLSRoute on a Service, through real tunnels: weights, server names, and what no route takes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.hbone.errors import TunnelRefused, TunnelReset
from tests.kit.aio import run
from tests.kit.client_hello import client_hello
from tests.kit.echo import manifests
from tests.kit.mesh import Mesh, address, mesh
from tests.kit.origin import Handler, origin


def tcp_route(*backends: dict[str, Any], **parent: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "kind": "TCPRoute",
        "metadata": {"name": "tcp"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "echo", **parent}],
            "rules": [{"backendRefs": list(backends)}],
        },
    }


def tls_route(name: str, hostname: str, backend: dict[str, Any]) -> dict[str, Any]:
    route = tcp_route(backend)
    return {**route, "kind": "TLSRoute", "metadata": {"name": name}, "spec": {**route["spec"], "hostnames": [hostname]}}


def to(version: str, **more: Any) -> dict[str, Any]:
    return {"name": f"echo-{version}", "port": 80, **more}


def _saying(name: str) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(name.encode())

    return handler


@asynccontextmanager
async def _setting(folder: Path, protocol: str, *routes: dict[str, Any]) -> AsyncIterator[tuple[Mesh, str]]:
    waypoint = address()
    vips = {name: address() for name in ("echo", "echo-v1", "echo-v2")}
    pods = {name: address() for name in ("echo-v1", "echo-v2")}
    text = manifests(vips, pods, waypoint).replace("{name: http,", f"{{name: {protocol},")
    more = "\n---\n".join(yaml.safe_dump(route) for route in routes)
    async with AsyncExitStack() as stack:
        for name, ip in pods.items():
            await stack.enter_async_context(origin(ip, _saying(name)))
        it = await stack.enter_async_context(mesh(folder, f"{text}\n---\n{more}", waypoint))
        yield it, f"{vips['echo']}:80"


async def _reached(it: Mesh, authority: str, first: bytes = b"x") -> str:
    """Who answered; `reset` when nobody did."""
    try:
        reader, writer = await it.tunnel(authority)
        writer.write(first)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
    except (TunnelReset, TunnelRefused):
        return "reset"
    return answer.decode()


def test_connections_are_split_by_weight(tmp_path: Path) -> None:
    async def scenario() -> Counter[str]:
        async with _setting(tmp_path, "tcp", tcp_route(to("v1", weight=70), to("v2", weight=30))) as (it, authority):
            return Counter([await _reached(it, authority) for _ in range(200)])

    reached = run(scenario())
    assert reached.total() == reached["echo-v1"] + reached["echo-v2"]
    assert abs(reached["echo-v1"] - 140) < 30  # 4.6 standard deviations


@pytest.mark.parametrize("backend", [to("v1", weight=0), {"name": "missing", "port": 80}, {**to("v1"), "port": 1}])
def test_a_connection_that_can_go_nowhere_is_reset(tmp_path: Path, backend: dict[str, Any]) -> None:
    async def scenario() -> str:
        async with _setting(tmp_path, "tcp", tcp_route(backend)) as (it, authority):
            return await _reached(it, authority)

    assert run(scenario()) == "reset"


def test_a_route_to_another_port_does_not_count(tmp_path: Path) -> None:
    async def scenario() -> str:
        async with _setting(tmp_path, "tcp", tcp_route(to("v1", weight=0), port=8080)) as (it, authority):
            return await _reached(it, authority)

    assert run(scenario()).startswith("echo-")


@pytest.mark.parametrize(
    ("server_name", "reached"),
    [
        ("one.example.com", "echo-v1"),
        ("two.example.com", "echo-v2"),
        ("a.two.example.com", "echo-v2"),
        ("other.example.org", "reset"),
        (None, "reset"),
    ],
)
def test_tls_goes_where_its_server_name_belongs(tmp_path: Path, server_name: str | None, reached: str) -> None:
    async def scenario() -> str:
        routes = (tls_route("one", "one.example.com", to("v1")), tls_route("two", "*.example.com", to("v2")))
        async with _setting(tmp_path, "tls", *routes) as (it, authority):
            return await _reached(it, authority, client_hello(server_name))

    assert run(scenario()) == reached


def test_what_no_tls_route_names_is_left_to_the_tcp_route(tmp_path: Path) -> None:
    async def scenario() -> list[str]:
        routes = (tcp_route(to("v2")), tls_route("one", "one.example.com", to("v1")))
        async with _setting(tmp_path, "tls", *routes) as (it, authority):
            names = ("one.example.com", "other.example.com", None)
            return [await _reached(it, authority, client_hello(name)) for name in names]

    assert run(scenario()) == ["echo-v1", "echo-v2", "echo-v2"]
