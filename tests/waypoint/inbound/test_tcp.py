"""Protocols other than HTTP, and undeclared ones: whole meshes in front of plain TCP and TLS servers."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.hbone.errors import TunnelRefused, TunnelReset
from l4.identity.authority import DevelopmentAuthority
from l4.net.copy import reset_on_close
from policies.attributes import Identity
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import answering, origin
from waypoint.inbound import tcp

IMPATIENT = with_settings(sniff_seconds=0.05)
PATIENT = with_settings(sniff_seconds=3600.0)


@asynccontextmanager
async def _setting(
    folder: Path, port: str, settings: Settings | None = None, pods: int = 1
) -> AsyncIterator[tuple[Mesh, str, list[str]]]:
    waypoint, vip, ips = address(), address(), [address() for _ in range(pods)]
    text = manifests(waypoint=waypoint, vip=vip, pods={f"app-{n}": ip for n, ip in enumerate(ips)})
    text = text.replace("{name: http, port: 9080}", f"{{name: {port}, port: 9080}}")
    async with mesh(folder, text, waypoint, settings) as it:
        yield it, f"{vip}:9080", ips


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that speaks first, as SMTP and MySQL do, and then echoes."""
    writer.write(b"220 ready\r\n")
    while data := await reader.read(65536):
        writer.write(data)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def _ask(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], context: ssl.SSLContext, name: str, question: bytes
) -> bytes:
    """As much of an answer as the question is long, by TLS over a tunnel."""
    reader, writer = streams
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    for step in (tls.do_handshake, lambda: tls.write(question), lambda: tls.read(len(question))):
        while True:
            try:
                answer = step()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        writer.write(outgoing.read())
    writer.close()
    assert isinstance(answer, bytes)
    return answer


@pytest.mark.parametrize(("port", "settings"), [("tcp", PATIENT), ("tls", PATIENT), ("odd", IMPATIENT)])
def test_a_server_may_speak_first(tmp_path: Path, port: str, settings: Settings) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port, settings) as (it, authority, [pod]), origin(pod, _greet):
            reader, writer = await it.tunnel(authority)

            greeting = await reader.readline()
            writer.write(b"hello")
            writer.write_eof()
            rest = await reader.read()

            assert (greeting, rest) == (b"220 ready\r\n", b"hello")

    run(scenario())


def test_a_silent_client_of_an_undeclared_port_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "odd", IMPATIENT) as (it, authority, [pod]), origin(pod, _greet):
            for _ in range(2):
                reader, writer = await it.tunnel(authority)
                await reader.readline()
                writer.close()

    with caplog.at_level(logging.WARNING):
        run(scenario())

    [line] = [record.getMessage() for record in caplog.records if "sent nothing" in record.getMessage()]
    assert "declare appProtocol: tcp" in line


@pytest.mark.parametrize("first", [b"*1\r\n$4\r\nPING\r\n", b"GET key\r\n", b"\x00\x01\x02", b"EHLO a\r\n"])
def test_an_undeclared_port_passes_what_is_no_http_at_once(tmp_path: Path, first: bytes) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "odd", PATIENT) as (it, authority, [pod]), origin(pod, _echo):
            reader, writer = await it.tunnel(authority)

            for byte in first:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            writer.write_eof()

            assert await reader.read() == first

    run(scenario())


def test_an_undeclared_port_serves_http_when_its_client_speaks_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "odd", PATIENT) as (it, authority, [pod]), origin(pod, answering()) as seen:
            answer = await it.get(authority)

            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"x-request-id" in seen.heads[0]

    run(scenario())


def test_a_client_that_ends_without_a_word_still_hears_the_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "odd", PATIENT) as (it, authority, [pod]), origin(pod, _greet):
            reader, writer = await it.tunnel(authority)

            writer.write_eof()

            assert await reader.read() == b"220 ready\r\n"

    run(scenario())


def test_tls_passes_untouched_and_is_named_by_its_server_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = DevelopmentAuthority(tmp_path / "ca")
        chain = authority.write(Identity("cluster.local", "default", "app"), tmp_path)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(chain, chain.with_suffix(".key"))
        client = ssl.create_default_context(cafile=str(authority.bundle_path))
        client.check_hostname = False  # SPIFFE certificates name no host

        async with _setting(tmp_path, "https") as (it, vip, [pod]):
            listening = await asyncio.start_server(_echo, pod, 9080, ssl=server)
            try:
                answer = await _ask(await it.tunnel(vip), client, "reviews.example.com", b"secret")
            finally:
                listening.close()
                await listening.wait_closed()

            assert answer == b"secret"
            await settled(lambda: " reviews.example.com " in it.access_log)

    run(scenario())


@pytest.mark.parametrize("port", ["tcp", "odd"])
def test_an_endpoint_that_is_gone_is_passed_over(tmp_path: Path, port: str) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port, PATIENT, pods=2) as (it, authority, pods), origin(pods[1], _echo):
            answers = []
            for _ in range(8):
                reader, writer = await it.tunnel(authority)
                writer.write(b"\x00hello")
                writer.write_eof()
                answers.append(await reader.read())

            assert answers == [b"\x00hello"] * 8

    run(scenario())


def test_without_an_endpoint_the_connect_of_a_declared_port_is_answered_503(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "tcp") as (it, authority, _):
            with pytest.raises(TunnelRefused) as caught:
                await it.tunnel(authority)

            assert caught.value.status == 503
            await settled(lambda: " UF " in it.access_log)
            metrics = it.metrics.render("")[0].decode()
            for event in ("opened", "closed"):
                assert re.search(rf'istio_tcp_connections_{event}_total\{{.*response_flags="UF".*\}} 1\n', metrics)

    run(scenario())


def test_a_service_that_is_gone_when_its_client_begins_resets_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "odd", PATIENT) as (it, authority, _):
            reader, writer = await it.tunnel(authority)
            it.apply(manifests(waypoint=it.waypoint, vip=address(), pods={}))

            writer.write(b"\x00hello")

            with pytest.raises(TunnelReset):
                await reader.read()
            await settled(lambda: " NR " in it.access_log)

    run(scenario())


def test_a_client_that_resets_takes_its_endpoint_along_and_frees_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "tcp") as (it, authority, [pod]), origin(pod, _greet) as seen:
            reader, writer = await it.tunnel(authority)
            await reader.readline()
            [live] = [live for name in it.holder.current.clusters for live in it.clusters[name].endpoints]
            assert live.active == 1

            writer.transport.abort()

            await settled(lambda: live.active == 0 and seen.closed == 1)
            await settled(lambda: "client_disconnected" in it.access_log)

    run(scenario())


def test_an_endpoint_that_resets_takes_its_client_along(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(5)
            reset_on_close(writer.get_extra_info("socket"))
            writer.transport.abort()

        async with _setting(tmp_path, "tcp") as (it, authority, [pod]), origin(pod, break_off):
            reader, writer = await it.tunnel(authority)
            writer.write(b"hello")

            with pytest.raises(TunnelReset):
                await reader.read()

    run(scenario())


def test_who_begins_a_request_line_and_stops_was_not_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "odd", IMPATIENT) as (it, authority, [pod]), origin(pod, _echo):
            reader, writer = await it.tunnel(authority)
            writer.write(b"GET /")

            assert await reader.readexactly(5) == b"GET /"
            writer.close()

    with caplog.at_level(logging.WARNING):
        run(scenario())

    assert not [record for record in caplog.records if "sent nothing" in record.getMessage()]


def test_a_sniffed_connection_that_leads_nowhere_is_reset(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "odd", PATIENT) as (it, authority, _):
            reader, writer = await it.tunnel(authority)
            writer.write(b"\x00hello")

            with pytest.raises(TunnelReset):
                await reader.read()

            await settled(lambda: " UF " in it.access_log)

    run(scenario())


def test_what_is_opaque_streams_with_bounded_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "tcp") as (it, authority, [pod]):
            sent = 0
            stuck = asyncio.Event()

            async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal sent
                for _ in range(400):
                    writer.write(bytes(65_536))
                    sent += 65_536
                    try:
                        await asyncio.wait_for(writer.drain(), 0.2)
                    except TimeoutError:
                        stuck.set()
                        await writer.drain()

            async with origin(pod, pour):
                reader, _ = await it.tunnel(authority)
                await stuck.wait()
                waiting = sent
                total = 0
                while data := await reader.read(1 << 20):
                    total += len(data)

            assert waiting < 16 << 20
            assert total == 400 * 65_536

    run(scenario())


def test_a_tunnel_that_is_lost_before_anybody_has_used_it_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "tcp-echo") as (it, authority, [pod]), origin(pod, _echo) as seen:
            reader, writer = await it.tunnel(authority)
            await settled(lambda: seen.connections == 1)
            [served] = [server for proxy in it.pods.proxies.values() for server in proxy.servers if server.drivers]

            for driver in served.drivers:
                driver.abort()
            await settled(lambda: seen.connections == 2)
            writer.write(b"hello")

            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await settled(lambda: all(not live.active for cluster in it.clusters for live in cluster.endpoints))
            assert all(cluster.circuit.connections == 0 for cluster in it.clusters)

    run(scenario())


def test_a_client_that_leaves_while_its_tunnel_is_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, "tcp-echo") as (it, authority, [pod]), origin(pod, _echo) as seen:
            _, writer = await it.tunnel(authority)
            await settled(lambda: seen.connections == 1)
            [served] = [server for proxy in it.pods.proxies.values() for server in proxy.servers if server.drivers]

            for driver in served.drivers:
                driver.abort()
            writer.transport.abort()
            await settled(lambda: not it.path.opaque)

            await settled(lambda: all(not live.active for cluster in it.clusters for live in cluster.endpoints))
            assert all(cluster.circuit.connections == 0 for cluster in it.clusters)

    run(scenario())


def test_bytes_are_counted_while_the_connection_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "REPORT_SECONDS", 0.05)

    async def scenario() -> None:
        async with _setting(tmp_path, "tcp", PATIENT) as (it, authority, [pod]), origin(pod, _echo):

            def counted() -> list[str]:
                text = it.metrics.render("")[0].decode()
                return re.findall(r'istio_tcp_(?:received|sent)_bytes_total\{reporter="waypoint".*\} (\d+)', text)

            reader, writer = await it.tunnel(authority)
            writer.write(b"12345")
            await reader.readexactly(5)
            await settled(lambda: counted() == ["5", "5"])

            writer.write(b"6789")
            await reader.readexactly(4)
            writer.close()
            await settled(lambda: not it.path.opaque)
            assert counted() == ["9", "9"]

    run(scenario())
