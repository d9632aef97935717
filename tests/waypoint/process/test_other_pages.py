"""What pages of others, slow readers and too many readers can do to a waypoint's administration port: nothing."""

import asyncio
import logging
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import ClientResponse, ClientSession

from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.process.test_streams import nobody_looks, stream
from tests.waypoint.process.test_supervisor import Pair, serving_pair
from tests.waypoint.test_exchange import Setting
from waypoint.process import streams

CHANGES = ("/drain", "/drain?on=false", "/logging?level=critical", "/quitquitquit")
OTHERS: tuple[Mapping[str, str], ...] = (
    {"Host": "rebound.example:15000"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)
PROTECTION = ("Content-Security-Policy", "Cross-Origin-Resource-Policy", "X-Content-Type-Options", "Cache-Control")


async def pages(both: Pair) -> list[str]:
    """All that the port itself lists, and the console's."""
    _, text = await both.get("/")
    listed = [line.split()[0] for line in text.splitlines()]
    return [*listed, "/", "/console", "/console/main.js", "/programs", "/nothing"]


async def ask(
    client: ClientSession, both: Pair, method: str, path: str, headers: Mapping[str, str]
) -> tuple[int, list[str]]:
    """The status, and which protection the answer lacks. Its body is not read: streams have no end."""
    host, port = both.supervisor.addresses.admin
    async with client.request(method, f"http://{host}:{port}{path}", headers=headers, allow_redirects=False) as answer:
        return answer.status, [it for it in PROTECTION if it not in answer.headers] + shared_with(answer)


def shared_with(answer: ClientResponse) -> list[str]:
    return [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_a_page_of_others_reads_nothing_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Setting().mesh(tmp_path) as it, serving_pair(it) as both, ClientSession() as client:
            level = logging.getLogger().level
            for headers in OTHERS:
                for path in await pages(both):
                    assert await ask(client, both, "GET", path, headers) == (403, []), (path, headers)
                for path in CHANGES:
                    simple = {**headers, "Content-Type": "text/plain"}
                    assert await ask(client, both, "POST", path, simple) == (403, []), (path, headers)
                    assert await ask(client, both, "OPTIONS", path, headers) == (403, []), (path, headers)

            assert await both.get("/healthz/ready", "readiness") == (200, "ready\n")
            assert logging.getLogger().level == level

    run(scenario(), 30)


def test_every_answer_is_protected_from_being_used_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Setting().mesh(tmp_path) as it, serving_pair(it) as both, ClientSession() as client:
            wrong = ("/explain", "/tap?colour=red", "/routes?colour=red", "/clusters?name=<script>", "/console/..%2fx")
            statuses = set()
            for path in (*await pages(both), *wrong):
                status, lacking = await ask(client, both, "GET", path, {})
                assert lacking == [], path
                statuses.add(status)

            assert statuses == {200, 302, 400, 404, 405}
            await settled(lambda: nobody_looks(both), seconds=10)

    run(scenario(), 30)


def test_a_tap_whose_client_does_not_read_ends_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "WRITE_SECONDS", 0.5)

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering(b"hello")), at.mesh(tmp_path) as it, serving_pair(it) as both:
            host, port = both.supervisor.addresses.admin
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, (host, port))
                await asyncio.get_running_loop().sock_sendall(sock, b"GET /tap HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await settled(lambda: not nobody_looks(both))
                async with stream(both, "/tap?status=200&path=/end") as other:
                    sent = 0
                    while len(both.supervisor._looking) == 2:
                        await _send(both, at.authority, b"/" + b"x" * 7000, 20)
                        sent += 20
                        assert sent < 5000, "the kernel's buffers are full long before"
                    await _send(both, at.authority, b"/end", 1)
                    assert (await other.next())["path"] == "/end"

    run(scenario(), 50)


async def _send(both: Pair, authority: str, path: bytes, count: int) -> None:
    """Requests of one connection."""
    reader, writer = await both.mesh.tunnel(authority, to=both.mesh.waypoint)
    for _ in range(count):
        writer.write(b"GET %b HTTP/1.1\r\nHost: app\r\n\r\n" % path)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
    writer.close()
