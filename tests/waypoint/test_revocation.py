"""Policies that change while clients are there: what they ask next, what is under way, what passes as bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelReset
from tests.kit.aio import run
from tests.kit.http2 import Http2Peer
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import Handler, Origin, answering, origin

DENY_CLIENT = "action: DENY, rules: [{from: [{source: {serviceAccounts: [client]}}]}]"
ALLOW_OTHERS = "rules: [{from: [{source: {serviceAccounts: [other]}}], to: [{operation: {methods: [GET]}}]}]"
CUT = (ConnectionError, asyncio.IncompleteReadError, TunnelReset)
DETAIL = "rbac_access_denied_matched_policy[ns[default]-policy[p]-rule[0]]"


class _World:
    def __init__(self, it: Mesh, text: str, vip: str, seen: Origin) -> None:
        self.mesh = it
        self.authority = f"{vip}:9080"
        self.seen = seen
        self._text = text

    def apply(self, spec: str) -> None:
        policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n"
        self.mesh.apply(f"{self._text}\n---\n{policy}spec: {{targetRefs: [{{kind: Service, name: app}}], {spec}}}")


@asynccontextmanager
async def _world(folder: Path, handler: Handler, port: str = "http") -> AsyncIterator[_World]:
    waypoint, vip, ip = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app": ip})
    text = text.replace("{name: http, port: 9080}", f"{{name: {port}, port: 9080}}")
    async with mesh(folder, text, waypoint) as it, origin(ip, handler) as seen:
        yield _World(it, text, vip, seen)


async def _ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    reader, writer = streams
    writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return head.split()[1] + b" " + await reader.readexactly(int(length))


async def _download(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body that never ends."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await reader.read()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


def test_a_policy_counts_for_the_next_request_on_an_open_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path, answering()) as it:
            streams = await it.mesh.tunnel(it.authority)
            assert await _ask(streams) == b"200 hello"

            it.apply(DENY_CLIENT)
            denied = await _ask(streams)
            it.apply("rules: [{}]")
            allowed = await _ask(streams)

            assert (denied, allowed) == (b"403 RBAC: access denied", b"200 hello")
            streams[1].close()

    run(scenario())


@pytest.mark.parametrize("policy", [DENY_CLIENT, ALLOW_OTHERS])
def test_a_download_is_cut_when_its_client_may_ask_nothing_more_and_others_go_on(tmp_path: Path, policy: str) -> None:
    async def scenario() -> None:
        async with _world(tmp_path, _download) as it:
            denied, allowed = [await it.mesh.tunnel(it.authority, account=name) for name in ("client", "other")]
            for reader, writer in (denied, allowed):
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                await reader.readuntil(b"hello\r\n")

            it.apply(policy)

            with pytest.raises(CUT):
                await asyncio.wait_for(denied[0].readexactly(1), 1)
            await settled(lambda: it.seen.closed == 1)
            await settled(lambda: "rbac_access_denied_matched_policy[" in it.mesh.access_log)
            assert it.mesh.path.exchanges == 1
            allowed[1].close()

    run(scenario())


@pytest.mark.parametrize(
    ("policy", "is_cut"),
    [
        ("action: DENY, rules: [{to: [{operation: {paths: ['/']}}]}]", True),
        ("action: DENY, rules: [{to: [{operation: {paths: ['/other']}}]}]", False),
        ("action: DENY, rules: [{when: [{key: 'request.headers[x-a]', notValues: ['1']}]}]", False),
        ("rules: [{to: [{operation: {hosts: [other]}}]}]", True),
    ],
    ids=["its path", "another path", "a header, which nobody knows any more", "another host"],
)
def test_a_download_is_judged_again_by_its_method_host_and_path(tmp_path: Path, policy: str, is_cut: bool) -> None:
    async def scenario() -> None:
        async with _world(tmp_path, _download) as it:
            reader, writer = await it.mesh.tunnel(it.authority)
            writer.write(b"GET /?a=b HTTP/1.1\r\nHost: app\r\n\r\n")
            await reader.readuntil(b"hello\r\n")

            it.apply(policy)

            assert it.mesh.path.exchanges == (0 if is_cut else 1)
            writer.close()
            await settled(lambda: it.mesh.path.exchanges == 0)

    run(scenario())


def test_a_request_that_waits_for_its_response_is_denied_instead(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path, _silent) as it:
            streams = await it.mesh.tunnel(it.authority)
            asking = asyncio.ensure_future(_ask(streams))
            await settled(lambda: it.seen.connections == 1)

            it.apply(DENY_CLIENT)

            assert await asking == b"403 RBAC: access denied"
            streams[1].close()

    run(scenario())


def test_all_requests_of_an_http2_connection_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path, _silent) as it:
            _, writer = await it.mesh.tunnel(it.authority)
            transport = writer.transport
            client = Http2Peer(is_client=True)
            transport.set_protocol(client)
            client.connection_made(transport)
            await settled(lambda: client.settings_seen)
            streams = [client.request() for _ in range(3)]
            await settled(lambda: it.seen.connections == 3)

            it.apply(DENY_CLIENT)

            answers = [await client.answer(stream) for stream in streams]
            assert [(answer.status, bytes(answer.data)) for answer in answers] == [(403, b"RBAC: access denied")] * 3
            writer.close()

    run(scenario())


def test_bytes_stop_when_they_may_pass_no_longer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _world(tmp_path, _echo, "tcp") as it:
            denied, allowed = [await it.mesh.tunnel(it.authority, account=name) for name in ("client", "other")]
            for reader, writer in (denied, allowed):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"

            it.apply(DENY_CLIENT)

            with pytest.raises(CUT):
                await asyncio.wait_for(denied[0].readexactly(1), 1)
            allowed[1].write(b"again")
            assert await allowed[0].readexactly(5) == b"again"
            await settled(lambda: DETAIL in it.mesh.access_log)
            allowed[1].close()

    run(scenario())
