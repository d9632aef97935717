import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4.config.documents import Document, Problem
from l4.config.folder import FolderSource
from l4.config.holder import Holder
from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.net.tasks import Tasks
from l4.readiness import Readiness
from waypoint.ask.lint import Subject
from waypoint.config.leaving import Leaving
from waypoint.config.pipeline import Pipeline
from waypoint.config.snapshot import Snapshot
from waypoint.metrics import waypoint_metrics
from waypoint.process import following
from waypoint.process.following import Following

_NOBODY = ("127.0.0.1", 0)
_DEADLINE_SECONDS = 20.0

MESH = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: default}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
{apiVersion: v1, kind: Service, metadata: {name: a, labels: {istio.io/use-waypoint: waypoint}},
 spec: {clusterIP: 10.1.0.1, ports: [{name: http, port: PORT}], selector: {app: a}}}
"""
POD = (
    "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {app: a}}, status: {phase: Running, podIP: 10.0.0.NUMBER}}"
)


@asynccontextmanager
async def followed(folder: Path) -> AsyncIterator[Holder[Snapshot]]:
    settings, holder, tasks = Settings(), Holder(Snapshot("", Registry())), Tasks()
    it = Following(
        FolderSource([folder]),
        Pipeline(("default", "waypoint"), settings, leaving=Leaving(("default", "waypoint"), 0.3, time.monotonic)),
        put_in_force=holder.swap,
        readiness=Readiness({"configuration"}),
        metrics=waypoint_metrics("test"),
    )
    await it.begin()
    tasks.keep("following the configuration", it.watch)
    tasks.keep("analyzing the configuration", it.analyze)
    tasks.keep("letting go", it.let_go)
    try:
        yield holder
    finally:
        await tasks.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110  files are followed by looking at them
            await asyncio.sleep(0.01)


def test_endpoints_that_change_are_not_analyzed_each_time_and_rules_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyses: list[Subject] = []
    find = following.findings

    def slow(subject: Subject) -> list[Problem]:
        analyses.append(subject)
        return find(subject)

    async def scenario() -> None:
        (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "80"))
        (tmp_path / "pod.yaml").write_text(POD.replace("NUMBER", "1"))
        async with followed(tmp_path) as holder:
            await until(lambda: bool(analyses))
            for number in range(2, 5):
                (tmp_path / "pod.yaml").write_text(POD.replace("NUMBER", str(number)))
                await until(lambda: holder.current.registry.workload_at(f"10.0.0.{number}") is not None)  # noqa: B023
            of_endpoints = len(analyses)
            (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "81"))
            await until(lambda: len(analyses) > of_endpoints)

            assert of_endpoints == 1
            assert ("10.1.0.1", 81) in analyses[-1].snapshots[0].destinations

    monkeypatch.setattr(following, "findings", slow)
    monkeypatch.setattr(following, "_ANALYSIS_REST", 1e6)
    asyncio.run(scenario())


def test_an_analysis_that_failed_is_made_again_without_waiting_for_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyses: list[Subject] = []
    find = following.findings

    def failing_at_first(subject: Subject) -> list[Problem]:
        analyses.append(subject)
        if len(analyses) == 1:
            raise OSError("no file descriptor is left")
        return find(subject)

    async def scenario() -> None:
        (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "80"))
        async with followed(tmp_path):
            await until(lambda: len(analyses) == 2)

    monkeypatch.setattr(following, "findings", failing_at_first)
    asyncio.run(scenario())


def test_nothing_of_the_configuration_before_stays_in_memory(tmp_path: Path) -> None:
    def ports() -> set[int]:
        gc.unfreeze()
        documents = [it for it in gc.get_objects() if isinstance(it, Document) and it.key.kind == "Service"]
        # Those of other tests in this process may lack anything.
        return {port.get("port") for it in documents for port in it.content.get("spec", {}).get("ports", ())}

    async def scenario() -> None:
        (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "4711"))
        async with followed(tmp_path) as holder:
            assert 4711 in ports()
            (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "4712"))
            await until(lambda: holder.current.destination(("10.1.0.1", 4712)) is not None)
            await until(lambda: 4711 not in ports())

            assert 4712 in ports()

    asyncio.run(scenario())


def test_a_change_that_alters_nothing_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    node = "{apiVersion: v1, kind: Node, metadata: {name: one, labels: {age: 'NUMBER'}}}"

    async def scenario() -> None:
        (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "80"))
        (tmp_path / "node.yaml").write_text(node.replace("NUMBER", "1"))
        async with followed(tmp_path):
            (tmp_path / "node.yaml").write_text(node.replace("NUMBER", "2"))
            await until(lambda: any("changed: Node one" in it.getMessage() for it in caplog.records))

    asyncio.run(scenario())

    live = [(it.levelno, it.getMessage()) for it in caplog.records if "is live" in it.getMessage()]
    assert [level for level, _ in live] == [logging.INFO, logging.DEBUG]
    assert len({text.split()[1] for _, text in live}) == 1


def test_a_service_that_has_left_is_let_go_without_another_change(tmp_path: Path) -> None:
    seen: list[str] = []

    def note(snapshot: Snapshot) -> None:
        found = snapshot.destination(("10.1.0.1", 80))
        seen.append("gone" if found is None else "leaving" if found.is_leaving else "bound")

    async def scenario() -> None:
        (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "80"))
        async with followed(tmp_path) as holder:
            holder.subscribe(note)
            (tmp_path / "mesh.yaml").write_text(MESH.replace("PORT", "80").replace("use-waypoint: waypoint", "a: b"))
            await until(lambda: seen[-1] == "gone")

    asyncio.run(scenario())

    assert seen == ["bound", "leaving", "gone"]
