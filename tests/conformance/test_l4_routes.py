"""TCPRoute and TLSRoute on a Service, through real tunnels: weights, server names, and what no route takes."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from l4.config.documents import Problem
from l4.hbone.errors import TunnelRefused, TunnelReset
from tests.kit.aio import run
from tests.kit.client_hello import client_hello
from tests.kit.echo import manifests
from tests.kit.mesh import Mesh, address, mesh
from tests.kit.origin import Handler, origin
from waypoint.config.codes import ConfigCode
from waypoint.config.status import RouteStatus


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
    more = "\n---\n".join(json.dumps(route) for route in routes)
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


BAD_WEIGHT = to("v1", weight="heavy")


@pytest.mark.parametrize("first", [b"x", client_hello("one.example.com")], ids=["bytes", "TLS"])
def test_a_tcp_route_with_a_value_that_is_not_accepted_closes_its_connections(tmp_path: Path, first: bytes) -> None:
    async def scenario() -> tuple[str, list[Problem]]:
        async with _setting(tmp_path, "tcp", tcp_route(BAD_WEIGHT)) as (it, authority):
            return await _reached(it, authority, first), _refused(it)

    reached, problems = run(scenario())

    assert reached == "reset"
    assert [problem.field for problem in problems] == ["spec.rules[0].backendRefs[0].weight"]
    assert problems[0].sentence.endswith("traffic that matches its readable part is closed at once")


def test_a_tls_route_with_a_value_that_is_not_accepted_closes_its_connections_alone(tmp_path: Path) -> None:
    routes = tls_route("one", "one.example.com", BAD_WEIGHT), tls_route("two", "two.example.com", to("v2"))

    async def scenario() -> list[str]:
        async with _setting(tmp_path, "tls", tcp_route(to("v1")), *routes) as (it, authority):
            names = ("one.example.com", "two.example.com", None)
            return [await _reached(it, authority, client_hello(name)) for name in names]

    assert run(scenario()) == ["reset", "echo-v2", "echo-v1"]


def test_the_status_tells_that_no_rule_of_the_route_is_left(tmp_path: Path) -> None:
    async def scenario() -> dict[str, bool]:
        async with _setting(tmp_path, "tcp", tcp_route(BAD_WEIGHT)) as (it, _):
            (status,) = (status for status in it.holder.current.statuses if isinstance(status, RouteStatus))
            return {condition.type: condition.is_true for condition in status.parents[0].conditions}

    assert run(scenario())["Accepted"] is False


def _virtual_service(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "echo"},
        "spec": {"hosts": ["echo", "*.example.com"], **spec},
    }


def _to(version: str, **more: Any) -> dict[str, Any]:
    return {"route": [{"destination": {"host": f"echo-{version}"}, **more}]}


TO_V1, TO_V2, BAD_RULE = _to("v1"), _to("v2"), _to("v1", weight="heavy")


def test_a_value_that_is_not_accepted_refuses_its_tls_rule_alone(tmp_path: Path) -> None:
    service = _virtual_service(
        tls=[
            {"match": [{"sniHosts": ["weight.example.com"]}], **BAD_RULE},
            {"match": [{"sniHosts": ["good.example.com"]}], **TO_V1},
            {"match": [{"sniHosts": ["port.example.com"], "port": "https"}], **TO_V1},
            {"match": [{"sniHosts": ["seen.example.com"]}, {"sniHosts": ["a b"]}], **TO_V1},
            {"match": [{"sniHosts": ["other.example.org"]}, {"sniHosts": ["its.example.com"]}], **TO_V1},
        ],
        tcp=[TO_V2],
    )
    service["spec"]["hosts"] = ["echo.default.svc.cluster.local", "*.example.com"]
    reached = {
        "weight.example.com": "reset",
        "good.example.com": "echo-v1",
        "port.example.com": "echo-v2",  # nobody can tell what the match would take
        "seen.example.com": "reset",
        "its.example.com": "reset",
        "else.example.com": "echo-v2",
    }

    async def scenario() -> tuple[dict[str, str], list[Problem]]:
        async with _setting(tmp_path, "tls", service) as (it, authority):
            asked = {name: await _reached(it, authority, client_hello(name)) for name in reached}
            return asked, _refused(it)

    asked, problems = run(scenario())

    assert asked == reached
    assert {problem.field for problem in problems} == {
        "spec.tls[0].route[0].weight",
        "spec.tls[2].match[0].port",
        "spec.tls[3].match[1]",
        "spec.tls[4]",
    }


@pytest.mark.parametrize(
    ("tcp", "reached"),
    [
        ([BAD_RULE, TO_V2], "reset"),
        ([{"match": [{"port": 81}], **BAD_RULE}, TO_V2], "echo-v2"),
        ([{"match": [{"port": 80}], **BAD_RULE}, TO_V2], "reset"),
        ([{"match": [{"port": "http"}], **TO_V1}, TO_V2], "echo-v2"),
        ([TO_V2, BAD_RULE], "echo-v2"),
        ([{}], "reset"),
    ],
)
def test_a_value_that_is_not_accepted_refuses_its_tcp_rule_alone(
    tmp_path: Path, tcp: list[dict[str, Any]], reached: str
) -> None:
    async def scenario() -> tuple[str, list[Problem]]:
        async with _setting(tmp_path, "tcp", _virtual_service(tcp=tcp)) as (it, authority):
            return await _reached(it, authority), _refused(it)

    answer, problems = run(scenario())

    assert answer == reached
    assert len(problems) == 1
    assert problems[0].field.startswith("spec.tcp[")


def _refused(it: Mesh) -> list[Problem]:
    return [problem for problem in it.holder.current.problems if problem.code is ConfigCode.RULE_INVALID]
