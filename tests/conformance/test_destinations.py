"""The destinations that a waypoint serves, by its Gateway's scope and by a tunnel's authority."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelRefused
from tests.conformance.test_http_route import http_route, response_headers
from tests.kit.aio import run
from tests.kit.echo import EchoMesh, echo_mesh
from tests.kit.mesh import mesh
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting

ROUTE = http_route(
    {
        "filters": [response_headers(set=[{"name": "X-Header-Set", "value": "routed"}])],
        "backendRefs": [{"name": "echo-v1", "port": 80}],
    }
)
ROUTED, DIRECT, REFUSED = "routed", "direct", "refused"


def authority(it: EchoMesh, what: str) -> str:
    names = {**it.vips, **{f"pod {name}": ip for name, ip in it.pods.items()}, "waypoint": it.mesh.waypoint}
    name, _, port = what.partition(":")
    return f"{names.get(name, name)}:{port}"


async def outcome(it: EchoMesh, what: str) -> str:
    try:
        answer = await it.ask(authority=authority(it, what))
    except TunnelRefused:
        return REFUSED
    assert answer.status == 200
    return ROUTED if answer.headers["x-header-set"] == "routed" else DIRECT


@pytest.mark.parametrize(
    ("what", "for_service", "for_workload", "for_all", "for_none"),
    [
        ("echo:80", ROUTED, REFUSED, ROUTED, REFUSED),
        ("echo.default.svc.cluster.local:80", ROUTED, REFUSED, ROUTED, REFUSED),
        ("pod echo-v1:9080", REFUSED, DIRECT, DIRECT, REFUSED),
        ("echo:81", REFUSED, REFUSED, REFUSED, REFUSED),
        ("pod echo-v1:81", REFUSED, REFUSED, REFUSED, REFUSED),
        ("far:80", REFUSED, REFUSED, REFUSED, REFUSED),
        ("pod far-v1:9080", REFUSED, REFUSED, REFUSED, REFUSED),
        ("echo-v1:9080", REFUSED, REFUSED, REFUSED, REFUSED),
        ("waypoint:15000", REFUSED, REFUSED, REFUSED, REFUSED),
        ("10.1.2.3:80", REFUSED, REFUSED, REFUSED, REFUSED),
    ],
)
def test_what_is_served(
    tmp_path: Path, what: str, for_service: str, for_workload: str, for_all: str, for_none: str
) -> None:
    expected = {"service": for_service, "workload": for_workload, "all": for_all, "none": for_none}

    async def scenario() -> dict[str, str]:
        found = {}
        for traffic in expected:
            (tmp_path / traffic).mkdir()
            async with echo_mesh(tmp_path / traffic, ROUTE, waypoint_for=traffic) as it:
                found[traffic] = await outcome(it, what)
        return found

    assert run(scenario()) == expected


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ({}, [200, 200]),
        ({"app-0": "leaving"}, [0, 200]),
        ({"app-0": "leaving", "app-1": "leaving"}, [200, 200]),
        ({"app-0": "leaving", "app-1": "sick"}, [200, 0]),
        ({"app-0": "sick", "app-1": "sick"}, [0, 0]),
        ({"app-0": "sick", "app-1": "sick", "service": "publishNotReadyAddresses: true"}, [200, 200]),
    ],
)
def test_who_answers_for_a_service_by_how_its_pods_are(
    tmp_path: Path, changes: dict[str, str], answers: list[int]
) -> None:
    states = {
        "leaving": ("labels: {app: app}", "labels: {app: app}, deletionTimestamp: '2026-01-01T00:00:00Z'"),
        "sick": ("status: {", "status: {conditions: [{type: Ready, status: 'False'}], "),
    }

    async def scenario() -> list[int]:
        setting = Setting(2)
        documents = setting.manifests().split("---\n")
        for name, change in changes.items():
            for index, text in enumerate(documents):
                if f"name: {name}," in text:
                    documents[index] = text.replace(*states[change])
                elif name == "service" and "kind: Service\n" in text:
                    documents[index] = text.replace("spec: {", f"spec: {{{change}, ")
        async with AsyncExitStack() as stack:
            origins = [await stack.enter_async_context(origin(ip, answering(b"here"))) for ip in setting.pods.values()]
            it = await stack.enter_async_context(
                mesh(tmp_path, "---\n".join(documents), setting.waypoint, setting.settings)
            )
            asked = [int((await it.get(setting.authority)).split(b" ", 2)[1]) for _ in range(20)]
            assert set(asked) == ({200} if any(answers) else {503})
            return [200 if one.heads else 0 for one in origins]

    assert run(scenario()) == answers
