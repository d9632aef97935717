"""One waypoint with two worker processes behind the same ports."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from l4.config.settings import Settings
from l4.hbone.errors import TunnelError, TunnelReset
from l4.hbone.pool import HbonePool
from l4.partial import LACKS
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.mesh import address, manifests
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, of_files, waypoint_process
from waypoint.process.supervisor import COUNTS_SECONDS

CONNECTIONS = 12
GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


@asynccontextmanager
async def two_workers(
    folder: Path,
    log: IO[bytes] | None = None,
    more: Iterable[Path] = (),
    source: Callable[[Path], Iterable[str]] = of_files,
    ready: int = 200,
    **environment: str,
) -> AsyncIterator[WaypointProcess]:
    async with waypoint_process(
        folder, log=log, more=more, source=source, ready=ready, WAYPOINT_WORKERS="2", **environment
    ) as it:
        yield it


async def status(it: WaypointProcess) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{it.ip}:15000/status") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def connections(it: WaypointProcess) -> list[int]:
    """Those of each worker."""
    return [worker["connections"] for worker in (await status(it))["workers"]]


def pids(it: WaypointProcess) -> list[int]:
    """The worker processes, in the order of their start."""
    return sorted(map(int, Path(f"/proc/{it.process.pid}/task/{it.process.pid}/children").read_text().split()))


def is_worker(pid: int) -> bool:
    """Whether its program has begun."""
    return "waypoint.process.child" in Path(f"/proc/{pid}/cmdline").read_text()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() != ""


async def replaced(it: WaypointProcess, pid: int) -> None:
    """Wait until another worker serves in the place of this one."""
    async with asyncio.timeout(30):
        while pid in pids(it) or len((await status(it))["workers"]) < 2:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


async def counted(it: WaypointProcess) -> dict[tuple[str, ...], float]:
    """What a scrape says of counters and histograms, without the process's own."""
    return {
        (sample.name, *sorted(map(str, sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(await it.metrics())
        for sample in family.samples
        if family.type in ("counter", "histogram")
    }


@asynccontextmanager
async def clients(it: WaypointProcess, number: int) -> AsyncIterator[list[WaypointProcess]]:
    """As many, each with an HBONE connection of its own."""
    async with AsyncExitStack() as pools:
        found = []
        for _ in range(number):
            pool = HbonePool(Settings())
            pools.push_async_callback(pool.close)
            found.append(replace(it, pool=pool))
        yield found


async def get(it: WaypointProcess) -> bytes:
    reader, writer = await it.open()
    writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    answer = await reader.read()
    writer.close()
    return answer


def test_connections_go_where_there_are_fewest_and_one_process_answers_for_both(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as it, clients(it, CONNECTIONS) as its, origin(it.pod, answering(b"hello")):
            answers = [await get(client) for client in its]
            counts = await connections(it)

            assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
            assert sum(counts) == CONNECTIONS
            assert min(counts) >= CONNECTIONS // 4, counts
            text = await it.metrics()
            served = re.findall(r'^istio_requests_total{.*response_code="200".*} (\d+)$', text, re.MULTILINE)
            assert sum(map(int, served)) == CONNECTIONS
            assert len(re.findall("^istio_build{.*} 1$", text, re.MULTILINE)) == 1
            assert (await status(it))["identity"] == "spiffe://cluster.local/ns/default/sa/waypoint"
            assert await it.readiness() == (200, "ready\n")

    run(scenario(), 50)


def test_a_configuration_goes_live_in_both_workers_and_both_drain(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as it:
            before = (await it.config_dump())["version"]
            manifest = tmp_path / "mesh.yaml"
            manifest.write_text(manifest.read_text().replace("9080", "9090"))

            async def versions() -> set[str]:
                dumped = await it.config_dump()
                return {dumped["version"], *(worker["configuration"] for worker in dumped["workers"].values())}

            async with asyncio.timeout(20):
                while before in (now := await versions()):  # noqa: ASYNC110 - files are followed by looking at them
                    await asyncio.sleep(0.05)

            assert len(now) == 1
            its = pids(it)
            it.process.terminate()
            assert await asyncio.wait_for(it.process.wait(), 20) == 0
            assert len(its) == 2
            assert not any(map(is_alive, its))

    run(scenario(), 50)


def test_a_worker_that_is_killed_costs_what_it_carried_and_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as it, clients(it, CONNECTIONS) as its, origin(it.pod, answering(b"hello")):
            streams = []
            for client in its:
                reader, writer = await client.open()
                writer.write(GET)
                assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
                streams.append((reader, writer))
            counts = await connections(it)
            assert sum(counts) == CONNECTIONS
            first, second = pids(it)
            os.kill(first, signal.SIGKILL)

            lost = 0
            for reader, writer in streams:
                writer.write(GET)
                try:
                    lost += not await reader.readuntil(b"hello")
                except (asyncio.IncompleteReadError, ConnectionError, TunnelReset):
                    lost += 1
                writer.close()
            assert lost in counts, counts
            assert (await it.readiness())[0] == 200, "the other worker serves"
            assert all([(await get(it)).startswith(b"HTTP/1.1 200") for _ in range(3)])
            await replaced(it, first)
            assert second in pids(it)
            text = await it.metrics()
            assert re.search(r'^pywaypoint_loop_failures_total{loop="worker [12]"} 1$', text, re.MULTILINE)

    run(scenario(), 50)


@pytest.mark.timeout(120)
def test_counters_do_not_go_down_when_workers_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path, DRAIN_SECONDS="1") as it, origin(it.pod, answering(b"hello")):

            async def total() -> float:
                found = await counted(it)
                return sum(value for (name, *_), value in found.items() if name == "istio_requests_total")

            async with clients(it, CONNECTIONS) as its:
                for client in its:
                    await get(client)
            first, second = pids(it)
            await asyncio.sleep(COUNTS_SECONDS + 2)  # until the supervisor has asked by itself
            os.kill(first, signal.SIGKILL)
            await replaced(it, first)
            assert await total() == CONNECTIONS

            async with clients(it, CONNECTIONS) as its:
                for client in its:
                    await get(client)
            os.kill(second, signal.SIGTERM)
            await replaced(it, second)
            assert await total() == 2 * CONNECTIONS, "it ended in order"

            scrapes, has_ended = [await counted(it)], asyncio.Event()

            async def scrape() -> None:
                while not has_ended.is_set():
                    scrapes.append(await counted(it))

            async def ask() -> None:
                while not has_ended.is_set():
                    with suppress(OSError, TunnelError, asyncio.IncompleteReadError):
                        await get(it)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(scrape())
                tasks.create_task(ask())
                for pid in pids(it):
                    os.kill(pid, signal.SIGKILL)
                    await replaced(it, pid)
                has_ended.set()
            assert await total() > 2 * CONNECTIONS
            for before, after in pairwise(scrapes):
                assert not {key: (value, after.get(key)) for key, value in before.items() if after.get(key, -1) < value}

    run(scenario(), 110)


def test_whoever_looks_sees_the_requests_of_both_and_a_log_level_holds_for_both(tmp_path: Path) -> None:
    async def scenario(log: IO[bytes]) -> None:
        async with two_workers(tmp_path, log=log) as it, clients(it, 2) as its, origin(it.pod, answering(b"hello")):
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{it.ip}:15000/tap?status=2xx") as stream,
            ):
                assert json.loads(await stream.content.readline())["type"] == "open"
                for client in its:
                    await get(client)
                seen = [json.loads(await stream.content.readline()) for _ in its]
            async with aiohttp.ClientSession() as session, session.get(f"http://{it.ip}:15000/connections") as answer:
                rows = await answer.json()
            async with aiohttp.ClientSession() as session:
                await session.post(f"http://{it.ip}:15000/logging?level=error")

            assert [found["status"] for found in seen] == [200, 200]
            assert {found["destination"]["endpoint"] for found in seen} == {f"{it.pod}:9080"}
            assert {row["worker"] for row in rows} == {"worker 1", "worker 2"}

    said = tmp_path / "said"
    with said.open("wb") as log:
        run(scenario(log), 50)
    assert "accepts HBONE" in said.read_text()
    assert "stopping" not in said.read_text(), "each worker would have told so at its end"


def test_a_worker_that_starts_later_shows_its_requests_too_and_has_the_level_of_the_log(tmp_path: Path) -> None:
    async def scenario(log: IO[bytes]) -> None:
        async with (
            two_workers(tmp_path, log=log) as it,
            origin(it.pod, answering(b"hello")),
            aiohttp.ClientSession() as session,
            session.get(f"http://{it.ip}:15000/tap") as tap,
            session.get(f"http://{it.ip}:15000/top?interval=0.2") as top,
        ):
            for stream in (tap, top):
                assert json.loads(await stream.content.readline())["type"] == "open"
            await session.post(f"http://{it.ip}:15000/logging?level=critical")
            for pid in pids(it):
                os.kill(pid, signal.SIGKILL)
                await replaced(it, pid)

            async with clients(it, 4) as its:
                for client in its:
                    assert (await get(client)).startswith(b"HTTP/1.1 200")
                assert min(await connections(it)) >= 1
            seen = 0
            while seen < 4:
                seen += json.loads(await tap.content.readline())["type"] == "request"
            counted = 0
            while counted < 4:
                counted += sum(row["requests"] for row in json.loads(await top.content.readline())["rows"])

    said = tmp_path / "said"
    with said.open("wb") as log:
        run(scenario(log), 50)
    assert "stopping" not in said.read_text(), "each worker would have told so at its end"


@pytest.mark.timeout(90)
def test_a_worker_that_does_not_start_is_killed_and_replaced(tmp_path: Path) -> None:
    async def scenario(log: IO[bytes]) -> None:
        async with two_workers(tmp_path, log=log, WORKER_START_SECONDS="8") as it, origin(it.pod, answering(b"hello")):
            first, second = pids(it)
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(20):
                while not (begun := [it for it in pids(it) if it not in (first, second) and is_worker(it)]):  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(0.01)
            (hanging,) = begun
            os.kill(hanging, signal.SIGSTOP)  # long before it can have its configuration

            assert (await get(it)).startswith(b"HTTP/1.1 200")
            await replaced(it, hanging)
            assert second in pids(it)
            text = await it.metrics()
            assert re.search(r'^pywaypoint_loop_failures_total{loop="worker [12]"} 2$', text, re.MULTILINE)

    said = tmp_path / "said"
    with said.open("wb") as log:
        run(scenario(log), 80)
    assert re.search("worker [12] has not started within 8 s; it is killed", said.read_text())


PAGES_OF_EACH = ("/clusters", "/config_dump", "/status", "/endpoints", "/connections", "/policies", "/stats")
PAGES_OF_ANY = ("/routes", "/certificates", "/problems", "/traffic")
SILENT = re.compile(r'^pywaypoint_worker_silent{worker="worker [12]"} 1$', re.MULTILINE)
PROMPTLY = 6.0
"""Seconds. A page waits at most two for a worker, and so does the third of three scrapes; the machine may be busy."""


@asynccontextmanager
async def page(
    it: WaypointProcess, path: str, method: str = "GET", seconds: float = PROMPTLY
) -> AsyncIterator[aiohttp.ClientResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{it.ip}:15000{path}", timeout=aiohttp.ClientTimeout(seconds)) as answer,
    ):
        assert answer.status == 200, (path, await answer.text())
        yield answer


async def known_as_silent(it: WaypointProcess, wanted: bool) -> None:
    async with asyncio.timeout(10):
        while ("has said nothing for 2 s" in (await it.readiness())[1]) is not wanted:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


@pytest.mark.timeout(120)
def test_a_worker_that_hangs_holds_up_nobody_and_is_replaced(tmp_path: Path) -> None:
    async def scenario(log: IO[bytes]) -> None:
        async with two_workers(tmp_path, log=log) as it, origin(it.pod, answering(b"hello")):
            async with clients(it, CONNECTIONS) as its, page(it, "/tap", seconds=100) as tap:
                assert json.loads(await tap.content.readline())["type"] == "open"
                for client in its:
                    await get(client)
                assert min(await connections(it)) > 0
                before = await counted(it)
                hanging, other = pids(it)
                os.kill(hanging, signal.SIGSTOP)

                # At once, nobody knows yet.
                scrapes = await asyncio.wait_for(asyncio.gather(counted(it), counted(it), it.metrics()), PROMPTLY)
                assert SILENT.search(scrapes[2])
                assert all(scrapes[0].get(key, -1) >= value for key, value in before.items())
                assert (await it.readiness())[0] == 200
                for path in PAGES_OF_EACH[:3]:
                    async with page(it, path) as answer:
                        assert re.match("worker [12] d(id|oes) not answer", answer.headers[LACKS]), path

                await known_as_silent(it, True)
                assert (await it.readiness())[0] == 200, "the other worker serves"
                for path in PAGES_OF_EACH:
                    async with page(it, path) as answer:
                        assert re.fullmatch("worker [12] does not answer", answer.headers[LACKS]), path
                for path in PAGES_OF_ANY[:3]:
                    async with page(it, path) as answer:
                        assert LACKS not in answer.headers, "one worker answers for both"
                for path in ("/drain", "/drain?on=false", "/logging?level=info"):
                    async with page(it, path, "POST") as answer:
                        assert (LACKS in answer.headers) is not path.endswith("false")
                async with clients(it, 6) as others:
                    answers = [await asyncio.wait_for(get(client), PROMPTLY) for client in others]
                assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 6
                events: list[dict[str, Any]] = []
                while [event["type"] for event in events].count("request") < CONNECTIONS + 6:
                    events.append(json.loads(await tap.content.readline()))
                (silent,) = [event["workers"] for event in events if event["type"] == "silent"]
                assert len(silent) == 1

                os.kill(hanging, signal.SIGCONT)
                await known_as_silent(it, False)
                assert pids(it) == [hanging, other]
                again = await counted(it)
                assert not SILENT.search(await it.metrics())
                assert all(again.get(key, -1) >= value for key, value in before.items())

            os.kill(hanging, signal.SIGSTOP)
            await replaced(it, hanging)
            assert other in pids(it)
            after = await counted(it)
            assert all(after.get(key, -1) >= value for key, value in again.items())
            text = await it.metrics()
            assert not SILENT.search(text)
            assert re.search(r'^pywaypoint_loop_failures_total{loop="worker [12]"} 1$', text, re.MULTILINE)
            assert (await it.readiness())[0] == 200

    said = tmp_path / "said"
    with said.open("wb") as log:
        run(scenario(log), 110)
    assert re.search("(worker [12]) has said nothing for 15 s; it is killed", said.read_text())


@pytest.mark.timeout(90)
def test_a_pause_of_all_processes_costs_no_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_workers(tmp_path) as it, origin(it.pod, answering(b"hello")):
            its = pids(it)
            for number, seconds in ((signal.SIGSTOP, 17), (signal.SIGCONT, 3)):  # longer than a worker may hang
                for pid in (*its, it.process.pid):
                    os.kill(pid, number)
                await asyncio.sleep(seconds)

            assert pids(it) == its
            assert (await get(it)).startswith(b"HTTP/1.1 200")

    run(scenario(), 80)


def test_workers_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    async def killed() -> list[int]:
        async with two_workers(tmp_path, DRAIN_SECONDS="1") as it:
            its = pids(it)
            it.process.kill()
            await it.process.wait()
            async with asyncio.timeout(20):
                while any(map(is_alive, its)):  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(0.05)
        return its

    with pytest.raises(AssertionError):  # at the end of `two_workers`, which expects status 0
        run(killed(), 50)


def test_a_waypoint_whose_workers_cannot_start_says_why_and_ends(tmp_path: Path) -> None:
    pki = MeshPki(tmp_path / "pki")
    chain = pki.write(pki.identity("default", "waypoint"))
    ip = address()
    (tmp_path / "mesh.yaml").write_text(manifests(waypoint=ip, vip=address(), pods={"app-1": address()}))
    flags = {
        "resources": tmp_path / "mesh.yaml",
        "gateway": "default/waypoint",
        "certificate": chain,
        "private-key": chain.with_suffix(".key"),
        "trust-bundle": pki.bundle_path,
        "listen": f"{ip}:15008",
        "metrics": f"{ip}:15020",
        "readiness": f"{ip}:15021",
        "admin": f"{ip}:15000",
        "workers": 2,
    }
    command = [sys.executable, "-m", "waypoint.cli", "run", *(f"--{name}={value}" for name, value in flags.items())]
    environment = {"PYTHONPATH": ":".join(sys.path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    environment["OTEL_TRACES_SAMPLER"] = "often"  # read by workers only

    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)

    assert done.returncode == 1
    assert "OTEL_TRACES_SAMPLER='often' is not one of" in done.stderr
    assert re.search(r"waypoint: worker [12] ended with status 1 before any worker was ready", done.stderr)
