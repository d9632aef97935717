"""`waypoint top` and `tap` of several waypoints: two real processes, found as the proxies of a laptop mesh."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from l4.asking import laptop
from l4.asking.laptop import Proxy
from tests.kit.aio import run
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process
from waypoint.mesh.running import only_one

GET = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
SLOW_SECONDS = 0.2


async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        await asyncio.sleep(SLOW_SECONDS)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


async def get(it: WaypointProcess) -> None:
    reader, writer = await it.open()
    writer.write(GET)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[WaypointProcess, WaypointProcess]]:
    """The application of the second one is slow."""
    place = laptop.folder({"XDG_RUNTIME_DIR": str(folder)})
    for name in ("a", "b"):
        (folder / name).mkdir()
    with only_one(place):
        async with (
            waypoint_process(folder / "a") as a,
            waypoint_process(folder / "b") as b,
            origin(a.pod, answering(b"hello")),
            origin(b.pod, slowly),
        ):
            its = {"shop/a": a, "shop/b": b}
            laptop.record(place, [Proxy("waypoint", name, f"{it.ip}:15000", "", "") for name, it in its.items()])
            yield a, b


@asynccontextmanager
async def command(folder: Path, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "waypoint.cli", *args),
        env={"XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": ":".join(sys.path), "HOME": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(await process.stdout.readline())  # type: ignore[no-any-return]


@pytest.mark.timeout(120)
def test_top_computes_percentiles_from_the_requests_of_both(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two(tmp_path) as (a, b):
            sending = asyncio.gather(_send(a, 0.02), _send(b, 0.05))
            async with (
                command(tmp_path, "top", "--by", "method", "--interval", "2", "-o", "json") as both,
                command(tmp_path, "top", "--by", "program,method", "--interval", "2", "-o", "json") as each,
            ):
                await line(both)
                (row,) = (found := await line(both))["rows"]
                rows = (await line(each))["rows"]
                assert found["programs"] == ["shop/a", "shop/b"]
                assert {it["program"] for it in rows} == {"shop/a", "shop/b"}
                assert row["statuses"] == {"2xx": row["requests"]}
                assert row["p50_ms"] < 1000 * SLOW_SECONDS / 2 < 1000 * SLOW_SECONDS <= row["p99_ms"] * 1.05
                assert "durations" not in row

                b.process.send_signal(signal.SIGSTOP)
                try:
                    while (await line(both))["programs"] != ["shop/a"]:
                        pass
                finally:
                    b.process.send_signal(signal.SIGCONT)
                while (await line(both))["programs"] != ["shop/a", "shop/b"]:
                    pass
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    run(scenario(), 100)


@pytest.mark.timeout(120)
def test_top_goes_on_without_a_waypoint_that_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two(tmp_path) as (a, b), command(tmp_path, "top", "--interval", "0.5", "-o", "json") as top:
            assert (await line(top))["programs"] == ["shop/a", "shop/b"]
            b.process.terminate()
            while (await line(top))["programs"] != ["shop/a"]:
                pass
            await get(a)
            assert top.stderr is not None
            assert (await top.stderr.readline()) == b"shop/b has ended the stream\n"

    run(scenario(), 100)


async def _send(it: WaypointProcess, seconds: float) -> None:
    while True:
        await get(it)
        await asyncio.sleep(seconds)
