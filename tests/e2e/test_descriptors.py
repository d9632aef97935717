"""Floods of connections against a process with few file descriptors: operators are answered, policies stay in force."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from l4.hbone.errors import ConnectFailed
from tests.kit.aio import run
from tests.kit.origin import Handler, answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

DENY = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed}
spec: {targetRefs: [{kind: Service, name: app}], action: DENY, rules: [{to: [{operation: {paths: ["/secret"]}}]}]}
"""
OPERATORS = ((15021, "/healthz/ready"), (15020, "/stats/prometheus"), (15000, "/config_dump"))


@contextlib.contextmanager
def _idle(ip: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing; those that are turned away are made again by nobody."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((ip, port))
        clients.append(client)
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


async def _operators_answer(it: WaypointProcess) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        for port, path in OPERATORS:
            async with session.get(f"http://{it.ip}:{port}{path}") as answer:
                assert answer.status == 200, (port, await answer.text())
                await answer.read()


async def _status(it: WaypointProcess, path: str, seconds: float = 10) -> bytes:
    reader, writer = await it.open()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
    line = await asyncio.wait_for(reader.readline(), seconds)
    writer.close()
    return line.split()[1]


@asynccontextmanager
async def _closed(folder: Path, nofile: int, handler: Handler | None = None) -> AsyncIterator[WaypointProcess]:
    """A waypoint whose policy denies /secret."""
    ok = handler or answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with (folder / "log").open("wb") as log:
        async with (
            waypoint_process(folder, log=log, nofile=nofile, DRAIN_DELAY_SECONDS="0", DRAIN_SECONDS="1") as it,
            origin(it.pod, ok),
        ):
            manifests = folder / "mesh.yaml"
            manifests.write_text(manifests.read_text() + DENY)
            await _becomes(it, "/secret", b"403")
            yield it


async def _becomes(it: WaypointProcess, path: str, status: bytes) -> None:
    async with asyncio.timeout(10):
        while await _status(it, path) != status:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("nofile", [64, 1024])
@pytest.mark.parametrize("port", [15021, 15020, 15008])
def test_idle_connections_by_anybody_leave_operators_and_policies_alone(tmp_path: Path, port: int, nofile: int) -> None:
    async def scenario() -> None:
        async with _closed(tmp_path, nofile) as it:
            with _idle(it.ip, port, 1500):
                for _ in range(3):
                    await asyncio.sleep(0.5)
                    await _operators_answer(it)
                    (tmp_path / "mesh.yaml").touch()
                if port != 15008:
                    assert await _status(it, "/secret") == b"403"
                refusals = await it.refusals()
            limits = {"operator_connections"} if port != 15008 else {"max_handshakes", "file_descriptors"}
            assert limits & refusals.keys()

    run(scenario(), 60)


def test_requests_that_are_held_leave_descriptors_for_operators_and_for_configuration(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _closed(tmp_path, 300, handler=_silent) as it:
            asking = [asyncio.ensure_future(_status(it, "/slow", seconds=30)) for _ in range(500)]
            try:
                answered, _ = await asyncio.wait(asking, timeout=5, return_when=asyncio.FIRST_COMPLETED)
                outcomes = {_outcome(task) for task in answered}
                await _operators_answer(it)
                manifests = tmp_path / "mesh.yaml"
                manifests.write_text(manifests.read_text().replace("/secret", "/other"))
                await _becomes(it, "/other", b"403")
                open_files = len(os.listdir(f"/proc/{it.process.pid}/fd"))
            finally:
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)

            assert outcomes
            assert outcomes <= {b"503", b"turned away"}
            assert 200 < open_files < 250
            assert "no file descriptor is left for traffic" in (tmp_path / "log").read_text()

    run(scenario(), 60)


def _outcome(task: asyncio.Future[bytes]) -> bytes:
    """The status; a connection that is one too many is turned away without any."""
    return b"turned away" if isinstance(task.exception(), ConnectFailed) else task.result()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with waypoint_process(tmp_path, nofile=2048, soft_nofile=256, DRAIN_DELAY_SECONDS="0") as it:
            limits = Path(f"/proc/{it.process.pid}/limits").read_text()  # noqa: ASYNC240 - it never blocks
            assert re.search(r"Max open files +2048 +2048 ", limits)

    run(scenario())
