"""Live requests and rates over a real administration port, from a mesh with two workers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from l4.admin import CLOSE_SECONDS
from l4.net import visits
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.process.test_supervisor import Pair, serving_pair
from tests.waypoint.test_exchange import Setting
from waypoint.process import streams


class Stream:
    def __init__(self, response: ClientResponse) -> None:
        self._response = response

    async def next(self) -> dict[str, Any]:
        return json.loads(await self._response.content.readline())  # type: ignore[no-any-return]


@asynccontextmanager
async def stream(both: Pair, path: str) -> AsyncIterator[Stream]:
    host, port = both.supervisor.addresses.admin
    async with ClientSession() as client, client.get(f"http://{host}:{port}{path}") as response:
        found = Stream(response)
        assert await found.next() == {"type": "open"}
        yield found


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Setting, Pair]]:
    at = Setting()
    async with origin(at.pod, answering(b"hello")), at.mesh(folder) as it, serving_pair(it) as both:
        yield at, both


def nobody_looks(both: Pair) -> bool:
    return both.mesh.path.telemetry._watchers is None and both.other.path.telemetry._watchers is None


def test_a_tap_shows_the_requests_of_all_workers_and_ends_with_its_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as (at, both):
            assert nobody_looks(both)
            async with stream(both, "/tap?destination=app&show=connection") as tap:
                await both.request(at.authority, both.mesh.waypoint)
                first = await tap.next()
                await both.request(at.authority, both.at)
                second = await tap.next()
            await both.get("/healthz")

            assert [(it["status"], it["destination"]["service"]) for it in (first, second)] == [
                (200, "app.default.svc.cluster.local")
            ] * 2
            assert first["source"]["identity"].endswith("/ns/default/sa/client")
            await settled(lambda: nobody_looks(both), seconds=streams.ALIVE_SECONDS / 2)

    run(scenario())


def test_an_open_tap_delays_no_stop(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as (_, both), stream(both, "/tap"):
            async with asyncio.timeout(CLOSE_SECONDS):
                await both.supervisor.close()

            assert nobody_looks(both)

    run(scenario())


def test_an_idle_tap_says_that_it_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 0.05)

    async def scenario() -> None:
        async with watched(tmp_path) as (at, both), stream(both, "/tap?status=5xx") as tap:
            await both.request(at.authority, both.at)

            assert await tap.next() == {"type": "alive"}

    run(scenario())


def test_a_tap_lasts_longer_than_other_visits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 0.1)

    async def scenario() -> None:
        async with watched(tmp_path) as (_, both), stream(both, "/tap") as tap:
            assert [(await tap.next())["type"] for _ in range(4)] == ["alive"] * 4

    run(scenario())


def test_what_a_slow_operator_misses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypoint.telemetry.tap.MAX_WAITING", 0)

    async def scenario() -> None:
        async with watched(tmp_path) as (at, both), stream(both, "/tap") as tap:
            await both.request(at.authority, both.at)

            assert await tap.next() == {"type": "dropped", "count": 1, "total": 1}

    run(scenario())


def test_rates_add_up_the_requests_of_all_workers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as (at, both), stream(both, "/top?interval=0.3&by=destination") as top:
            await asyncio.gather(*(both.request(at.authority, it) for it in (both.mesh.waypoint, both.at)))
            counted = 0
            while counted < 2:
                line = await top.next()
                assert line["type"] == "rates"
                counted += sum(it["requests"] for it in line["rows"])

            assert counted == 2

    run(scenario())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/tap?colour=red", "there is no condition 'colour'"),
        ("/top?by=colour", "cannot be grouped by 'colour'"),
        ("/top?interval=0", "interval='0' is not a number from 0.2 to 60"),
        ("/top?status=x", "status 'x' is not of the form"),
    ],
)
def test_a_wrong_question_is_refused(tmp_path: Path, path: str, said: str) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as (_, both):
            status, text = await both.get(path)

            assert status == 400
            assert said in text

    run(scenario())


def test_there_are_only_so_many_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 1)

    async def scenario() -> None:
        async with watched(tmp_path) as (_, both):
            async with stream(both, "/tap"):
                refused = await both.get("/tap")

            assert refused == (503, "1 live streams are open; close one of them first\n")

    run(scenario())
