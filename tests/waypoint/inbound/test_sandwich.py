"""The PROXY-protocol listener behind a ztunnel, which the test plays."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.net.capacity import Capacity
from l4.net.listener import bind
from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.envoy_pieces import Certificate
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import answering, origin
from tests.l4.net.test_proxy_protocol import IDENTITY, header, value
from waypoint.inbound.sandwich import ProxyProtocolSettings, ProxyServer, is_trusted_sender

GET = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"


class Setting:
    def __init__(self, mesh: Mesh, vip: str, pod: str, listens: str, port: int, server: ProxyServer) -> None:
        self.mesh = mesh
        self.vip = vip
        self.pod = pod
        self.server = server
        self.at = (listens, port)

    async def send(self, *pieces: bytes) -> bytes:
        """Everything that comes back, up to the end; nothing when the connection is cut."""
        reader, writer = await asyncio.open_connection(*self.at)
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def header(self, values: bytes = value(0xD0, IDENTITY.encode()), **options: object) -> bytes:
        return header(("10.1.2.3", 4711), (self.vip, 9080), values, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def _setting(
    folder: Path, *, port: str = "http", settings: Settings | None = None, capacity: Capacity | None = None
) -> AsyncIterator[Setting]:
    waypoint, vip, pod = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
    text = text.replace("{name: http, port: 9080}", f"{{name: {port}, port: 9080}}")
    async with mesh(folder, text, waypoint, settings) as it:
        sock = bind("127.0.0.1", 0)
        host, number = sock.getsockname()
        server = ProxyServer(sock, it.path, it.worker.terminator, capacity or Capacity(50))
        try:
            yield Setting(it, vip, pod, host, number, server)
        finally:
            await server.drain(1)


def test_a_request_is_served_as_the_client_that_the_ztunnel_names(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            answer = await it.send(it.header() + GET)

            assert answer.startswith(b"HTTP/1.1 200 OK")
            await settled(lambda: "10.1.2.3:4711" in it.mesh.access_log)
            assert f'source_principal="{IDENTITY}"' in it.mesh.metrics.render("")[0].decode()

    run(scenario())


@pytest.mark.envoy
def test_envoy_can_be_the_ztunnel(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            pki, at = it.mesh.pki, (address(), 15008)
            chain = pki.write(pki.identity("default", "waypoint"))
            certificate = Certificate(chain, chain.with_suffix(".key"), pki.bundle_path)
            with ExitStack() as stack:
                ztunnel = envoy.run(envoy.sandwiching(certificate, listen=at, to=it.at), ready=at)
                await asyncio.to_thread(stack.enter_context, ztunnel)
                reader, writer = await it.mesh.tunnel(f"{it.vip}:9080", to=at[0])
                writer.write(GET)
                answer = await reader.read()
                writer.close()

            assert answer.startswith(b"HTTP/1.1 200 OK")
            client = pki.identity("default", "client")
            assert f'source_principal="{client}"' in it.mesh.metrics.render("")[0].decode()

    run(scenario())


def test_header_and_request_may_come_in_any_pieces(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            answer = await it.send(*(bytes([byte]) for byte in it.header() + GET))

            assert answer.startswith(b"HTTP/1.1 200 OK")

    run(scenario())


def test_the_service_may_be_named_instead_of_its_address(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            named = header(("10.1.2.3", 1), ("10.9.9.9", 9080), value(0xD1, b"app.default.svc.cluster.local"))

            assert (await it.send(named + GET)).startswith(b"HTTP/1.1 200 OK")

    run(scenario())


def test_what_is_opaque_passes_with_its_server_speaking_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"ready\r\n")
            writer.write(await reader.readexactly(4))

        async with _setting(tmp_path, port="tcp") as it, origin(it.pod, greet):
            assert await it.send(it.header(), b"bye\n") == b"ready\r\nbye\n"

    run(scenario())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (value(0xD0, b"spiffe://elsewhere/ns/default/sa/client"), "malformed_proxy"),
        (value(0xD0, b"client"), "malformed_proxy"),
        (value(0x03, b"\x00\x00\x00\x00"), "malformed_proxy"),
    ],
)
def test_who_cannot_be_who_he_says_is_cut_off(tmp_path: Path, values: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()) as seen:
            assert await it.send(it.header(values) + GET) == b""
            assert seen.connections == 0
            assert f'reason="{reason}"' in it.mesh.metrics.render("")[0].decode()

    run(scenario())


def test_a_destination_that_is_not_ours_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            assert await it.send(header(("10.1.2.3", 1), ("10.9.9.9", 9080)) + GET) == b""

    run(scenario())


def test_a_health_check_is_closed_politely(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            assert await it.send(header()[:12] + b"\x20\x00\x00\x00") == b""

    run(scenario())


def test_a_header_that_does_not_come_in_time_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, settings=with_settings(handshake_seconds=0.05)) as it:
            assert await it.send(it.header()[:20]) == b""
            assert 'reason="handshake_seconds"' in it.mesh.metrics.render("")[0].decode()

    run(scenario())


def test_connections_count_with_those_of_hbone_until_they_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        capacity = Capacity(3)
        assert capacity.take(), "one connection of HBONE"
        async with _setting(tmp_path, capacity=capacity) as it, origin(it.pod, answering()):
            at_head, in_exchange = [await asyncio.open_connection(*it.at) for _ in range(2)]
            in_exchange[1].write(it.header() + GET.replace(b"Connection: close\r\n", b""))
            await in_exchange[0].readuntil(b"hello")

            refused = await it.send(it.header() + GET)
            for _, writer in (at_head, in_exchange):
                writer.close()
            await settled(capacity.take)

            assert refused == b""
            assert (await it.send(it.header() + GET)).endswith(b"hello")
            assert 'pywaypoint_refused_total{reason="max_connections"} 1' in it.mesh.metrics.render("")[0].decode()

    run(scenario())


@pytest.mark.parametrize(
    ("trusted", "ip", "is_trusted"),
    [
        ("", "127.0.0.1", True),
        ("", "::1", True),
        ("", "10.0.0.1", False),
        ("192.0.2.0/24, 10.0.0.1", "10.0.0.1", True),
        ("192.0.2.0/24, 10.0.0.1", "10.0.0.2", False),
        ("192.0.2.0/24", "192.0.2.77", True),
    ],
)
def test_only_loopback_and_the_named_addresses_are_listened_to(trusted: str, ip: str, is_trusted: bool) -> None:
    settings = ProxyProtocolSettings(proxy_trusted_addresses=trusted)

    assert is_trusted_sender(ip, settings.proxy_trusted_networks) is is_trusted


def test_what_an_endpoint_does_not_take_is_not_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        count = 0

        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            await go.wait()
            while data := await reader.read(1 << 20):
                count += len(data)
            writer.write(b"all")

        async with _setting(tmp_path, port="odd") as it, origin(it.pod, swallow):
            reader, writer = await asyncio.open_connection(*it.at)
            writer.write(it.header() + bytes(64 << 20))
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except TimeoutError:
                is_stuck = True
            else:
                is_stuck = False
            go.set()
            writer.write_eof()

            assert await reader.read() == b"all"
            assert is_stuck
            assert count == 64 << 20
            writer.close()

    run(scenario())


def test_what_leads_nowhere_is_reset(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port="tcp") as it:
            for head in (it.header(), header(("10.1.2.3", 1), ("10.9.9.9", 9080))):
                reader, writer = await asyncio.open_connection(*it.at)
                writer.write(head)

                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.close()

    run(scenario())


def test_draining_waits_for_what_is_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        go = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with _setting(tmp_path) as it, origin(it.pod, wait) as seen:
            asking = asyncio.create_task(it.send(it.header() + GET))
            await settled(lambda: seen.connections == 1)
            draining = asyncio.create_task(it.server.drain(5))
            await asyncio.sleep(0)
            assert it.server.connection_count == 1
            go.set()

            assert (await asking).endswith(b"ok")
            await draining

    run(scenario())


@pytest.mark.parametrize("reads", [False, True], ids=["frozen", "slow"])
def test_draining_cuts_who_takes_nothing_and_waits_for_who_takes_little(tmp_path: Path, reads: bool) -> None:
    async def scenario() -> None:
        body = bytes(32 << 20)  # more than all the buffers on its way
        settings = with_settings(drain_silence_seconds=1.0)
        async with _setting(tmp_path, settings=settings) as it, origin(it.pod, answering(body)):
            sock = socket.create_connection(it.at)
            sock.setblocking(False)
            sock.sendall(it.header() + GET)
            loop = asyncio.get_running_loop()
            await settled(lambda: it.mesh.path.exchanges == 1)
            taken = 0

            async def take() -> None:
                nonlocal taken
                while reads and (data := await loop.sock_recv(sock, 1 << 20)):
                    taken += len(data)
                    await asyncio.sleep(0.05)

            taking = asyncio.create_task(take())
            await asyncio.sleep(0.5)
            began = loop.time()
            await it.server.drain(20)
            seconds = loop.time() - began
            await taking
            sock.close()

            assert seconds < 10
            assert (taken > len(body)) is reads

    run(scenario(), 50)


KEPT = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The head of the answer to one more request."""
    writer.write(KEPT)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(5)
    return head.decode().lower()


def test_clients_that_are_there_are_told_of_the_end_and_those_that_come_meanwhile_are_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            used, silent = [await asyncio.open_connection(*it.at) for _ in range(2)]
            for _, writer in (used, silent):
                writer.write(it.header())
            assert "connection: close" not in await _answer(*used)
            await settled(lambda: it.server.connection_count == 2)
            await asyncio.sleep(0.1)

            it.server.terminator.announce()
            late = await asyncio.open_connection(*it.at)
            late[1].write(it.header())

            assert "connection: close" in await _answer(*used)
            assert "connection: close" in await _answer(*silent)
            for _ in range(3):
                assert "connection: close" not in await _answer(*late)
            it.server.terminator.drain()
            assert "connection: close" in await _answer(*late)
            for _, writer in (used, silent, late):
                writer.close()

    run(scenario())


def test_a_connection_on_which_nothing_has_come_is_closed_when_it_has_been_quiet(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it, origin(it.pod, answering()):
            silent, beginning = [await asyncio.open_connection(*it.at) for _ in range(2)]
            for _, writer in (silent, beginning):
                writer.write(it.header())
            await asyncio.sleep(0.1)

            it.server.terminator.drain()
            await asyncio.sleep(0.1)
            assert "connection: close" in await _answer(*beginning)

            assert await asyncio.wait_for(silent[0].read(), 5) == b""
            for _, writer in (silent, beginning):
                writer.close()

    run(scenario())
