"""Workers behind one supervisor: real tunnels and requests to each, real operator ports before all."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from l4 import admin, version
from l4.admin import OperatorAddresses
from l4.asking.admin import Refused
from l4.asking.reach import Target
from l4.net.listener import bind
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, settled
from tests.kit.origin import answering, hang, origin
from tests.waypoint.test_exchange import Setting, status
from waypoint.ask.explanation import Explanation
from waypoint.ask.question import Question
from waypoint.ask.remote import ask_target
from waypoint.metrics import COMPONENT
from waypoint.process import supervisor as process_supervisor
from waypoint.process.answering import Answering, Counts, LocalWorker
from waypoint.process.supervisor import Supervisor
from waypoint.process.worker import Worker, assemble

ANYWHERE = OperatorAddresses(("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.1", 0))
EJECTS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec: {host: app, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 100}}}
"""


async def get(supervisor: Supervisor, path: str, port: str = "admin") -> tuple[int, str]:
    host, number = getattr(supervisor.addresses, port)
    async with ClientSession() as client, client.get(f"http://{host}:{number}{path}") as answer:
        return answer.status, await answer.text()


@asynccontextmanager
async def supervised(workers: Sequence[Answering], *pending: str) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(workers, MeshMetrics(COMPONENT, version.installed()), pending, lambda: None)
    await supervisor.start(ANYWHERE)
    try:
        yield supervisor
    finally:
        await supervisor.close()


@dataclass
class Pair:
    """The worker of a mesh and another one, whose address is `at`."""

    supervisor: Supervisor
    mesh: Mesh
    other: Worker
    at: str

    def serve(self) -> None:
        """Let the other one serve, too."""
        self.other.put_in_force(self.mesh.holder.current)
        self.other.serve(bind(self.at, 15008))

    async def get(self, path: str, port: str = "admin") -> tuple[int, str]:
        return await get(self.supervisor, path, port)

    async def request(self, authority: str, worker: str, target: str = "/") -> int:
        """The status of a request through the worker with this address."""
        reader, writer = await self.mesh.tunnel(authority, to=worker)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
        try:
            return status(await reader.read())
        finally:
            writer.close()

    async def total(self, sample_name: str, **labels: str) -> float:
        _, text = await self.get("/stats/prometheus", "metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == sample_name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def pair(mesh: Mesh, *pending: str) -> AsyncIterator[Pair]:
    """The second worker is made of the same parts as the mesh's."""
    other = assemble(mesh.worker.parts)
    workers = LocalWorker("worker 1", mesh.worker), LocalWorker("worker 2", other)
    try:
        async with supervised(workers, *pending) as supervisor:
            yield Pair(supervisor, mesh, other, address())
    finally:
        await other.drain(1)
        await other.close()


@asynccontextmanager
async def serving_pair(mesh: Mesh) -> AsyncIterator[Pair]:
    async with pair(mesh) as both:
        both.serve()
        yield both


def test_two_workers_have_one_sum_one_readiness_and_one_configuration(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering(b"hello")), at.mesh(tmp_path) as it, pair(it, "configuration") as both:
            before = await both.get("/healthz/ready", "readiness")
            both.supervisor.readiness.done("configuration")
            between = await both.get("/healthz/ready", "readiness")
            both.serve()
            after = await both.get("/healthz/ready", "readiness")

            assert before == (503, "not ready, pending: configuration, listener\n")
            assert between == (503, "not ready, pending: listener\n")
            assert after == (200, "ready\n")

            statuses = [await both.request(at.authority, it.waypoint) for _ in range(2)]
            statuses += [await both.request(at.authority, both.at) for _ in range(3)]

            await settled(lambda: not (it.path.exchanges or both.other.path.exchanges))
            assert statuses == [200] * 5
            assert await both.total("istio_requests_total", response_code="200") == 5
            assert await both.total("istio_request_duration_milliseconds_count") == 5
            assert await both.total("istio_request_duration_milliseconds_bucket", le="+Inf") == 5
            assert await both.total("istio_build") == 1
            assert await both.total("pywaypoint_config_problems") == 0

    run(scenario())


def test_each_worker_counts_its_own_connections_and_ejections(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, hang), at.mesh(tmp_path, EJECTS) as it, serving_pair(it) as both:
            waiting = [asyncio.create_task(both.request(at.authority, both.at)) for _ in range(2)]
            await settled(lambda: both.other.path.exchanges == 2)

            _, text = await both.get("/config_dump")
            found = json.loads(text)
            version = it.holder.current.version

            assert found["workers"] == {
                "worker 1": {"configuration": version, "problems": 0, "connections": 0, "exchanges": 0},
                "worker 2": {"configuration": version, "problems": 0, "connections": 1, "exchanges": 2},
            }
            assert found["version"] == version
            assert found["destinations"].keys() == {f"{host}:{port}" for host, port in it.holder.current.destinations}

            name = next(iter(it.holder.current.clusters))
            one, other = json.loads((await both.get(f"/clusters?name={name}"))[1])
            assert (one["worker"], one["endpoints"][0]["requests"]) == ("worker 1", 0)
            assert (other["worker"], other["endpoints"][0]["requests"]) == ("worker 2", 2)
            assert (await both.get("/clusters?name=nobody"))[0] == 404
            for task in waiting:
                task.cancel()

    run(scenario())


def test_a_request_is_explained_once_whoever_would_serve_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path) as it, serving_pair(it) as both:
            question = Question.parse("default/client", at.authority, "GET", "/", ())

            explanation = await ask_target(Target("waypoint", admin=both.supervisor.addresses.admin), question)

            assert explanation == await LocalWorker("worker 2", both.other).explain(question)

    run(scenario())


class Hanging(LocalWorker):
    """Its event loop is another's, which stands still."""

    async def readiness(self) -> Readiness:
        return await asyncio.get_running_loop().create_future()

    async def explain(self, question: Question) -> Explanation:
        return await asyncio.get_running_loop().create_future()

    async def counts(self) -> Counts:
        return await asyncio.get_running_loop().create_future()


def test_a_worker_that_hangs_is_named_and_the_other_one_answers_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path) as it:
            workers = Hanging("worker 1", it.worker), LocalWorker("worker 2", it.worker)
            async with supervised(workers) as supervisor:
                question = Question.parse("default/client", at.authority, "GET", "/", ())
                explanation = await ask_target(Target("waypoint", admin=supervisor.addresses.admin), question)
                ready = await get(supervisor, "/healthz/ready", "readiness")
                status, dumped = await get(supervisor, "/config_dump")

                assert explanation == await workers[1].explain(question)
                assert ready == (503, "not ready, pending: worker 1\nworker 1 did not answer within 1 s\n")
                assert status == 200
                assert json.loads(dumped)["workers"].keys() == {"worker 2"}

    monkeypatch.setattr(process_supervisor, "EACH_SECONDS", 0.2)
    monkeypatch.setattr(admin, "PROBE_SECONDS", 1.0)
    run(scenario())


def test_a_page_for_which_no_worker_answers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path) as it, supervised([Hanging("worker 1", it.worker)]) as supervisor:
            question = Question.parse("default/client", at.authority, "GET", "/", ())
            with pytest.raises(Refused, match=r"worker 1 did not answer within 0\.2 s"):
                await ask_target(Target("waypoint", admin=supervisor.addresses.admin), question)
        async with supervised([]) as supervisor:
            for path in ("/clusters", "/routes", "/policies"):
                assert await get(supervisor, path) == (503, "the waypoint has no worker now\n")

    monkeypatch.setattr(admin, "ANSWER_SECONDS", 0.2)
    run(scenario())
