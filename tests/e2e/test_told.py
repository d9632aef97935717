"""A running waypoint's reports about its configuration, in its log and its readiness."""

import asyncio
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.telemetry.process_log import BURST
from tests.kit.aio import run
from tests.kit.mesh import GATEWAY, settled
from tests.kit.origin import answering, origin
from tests.kit.process import waypoint_process
from waypoint.ask.load import load

ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules:
  - backendRefs: [{name: app, port: 9080}]
  - matches: [{path: {value: /other}}]
    backendRefs: [{name: app, port: 9080}]
"""
BROKEN = ROUTE.replace("name: app, port: 9080}]\n  - matches", "name: nobody, port: 9080}]\n  - matches")
UNREACHABLE = ROUTE + "  - matches: [{path: {value: /other}}]\n    backendRefs: [{name: app, port: 9080}]\n"


def test_every_problem_and_finding_is_told_once_with_its_line_and_when_it_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, log = tmp_path / "route.yaml", tmp_path / "log"
        path.write_text(BROKEN)

        async def says(text: str) -> None:
            await settled(lambda: text in log.read_text(), 20)

        with log.open("wb") as file:
            async with waypoint_process(tmp_path, log=file, more=[path]):
                await says(f"{path}:7: HTTPRoute default/app spec.rules[0].backendRefs[0]")
                path.write_text(ROUTE)
                await says(f"resolved: {path}:7: HTTPRoute default/app spec.rules[0].backendRefs[0]")
                await says(f"is live: 2 destinations; changed: HTTPRoute default/app ({path}:1)")
                path.write_text(UNREACHABLE)
                await says(f"{path}:10: HTTPRoute default/app spec.rules[2]: never matches")
                path.write_text(ROUTE)
                await says(f"resolved: {path}:10: HTTPRoute default/app spec.rules[2]")

        warnings = log.read_text().count("WARNING waypoint.process.following: ")
        assert warnings == 3  # the third: the namespace is not in the mesh

    run(scenario(), 60)


def test_every_edit_of_rules_is_told_however_many_there_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        path, log = tmp_path / "route.yaml", tmp_path / "log"
        path.write_text(ROUTE)

        with log.open("wb") as file:
            async with waypoint_process(tmp_path, log=file, more=[path]):
                for edit in range(1, 2 * BURST):
                    path.write_text(ROUTE.replace("/other", f"/other/{edit}"))
                    await settled(lambda: log.read_text().count("; changed: HTTPRoute default/app") == edit, 20)  # noqa: B023

    run(scenario(), 60)


@pytest.mark.parametrize(
    ("gateway", "reason"),
    [
        ("default/waypont", "there is no Gateway default/waypont; did you mean default/waypoint?"),
        ("books/something", "there is no Gateway books/something; there are default/waypoint"),
    ],
)
def test_a_gateway_that_is_not_there_is_said_and_keeps_it_not_ready(tmp_path: Path, gateway: str, reason: str) -> None:
    async def scenario() -> None:
        log = tmp_path / "log"
        with log.open("wb") as file:
            async with waypoint_process(tmp_path, log=file, gateway=gateway, ready=503) as it:
                await settled(lambda: reason in log.read_text(), 20)

                status, text = await it.readiness()

        assert status == 503
        assert text == f"not ready, pending: configuration\n{reason}; see --gateway\n"

    run(scenario(), 60)


def test_without_any_object_it_says_so_and_is_not_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path, text="# nothing\n", ready=503) as it:
            async with asyncio.timeout(20):
                while "there are no objects in" not in (await it.readiness())[1]:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    run(scenario(), 60)


@pytest.mark.parametrize("status", ["", "status: {addresses: []}\n", "status: {conditions: []}\n"])
def test_a_gateway_without_addresses_is_served_by_the_waypoint_that_was_told_its_name(
    tmp_path: Path, status: str
) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path, gateway_status=status) as it, origin(it.pod, answering()):
            reader, writer = await it.open()
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")

            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            by_the_tools = load([tmp_path / "mesh.yaml"], GATEWAY, Settings()).snapshots[GATEWAY]
            assert (await it.config_dump())["version"] == by_the_tools.version

    run(scenario(), 60)
