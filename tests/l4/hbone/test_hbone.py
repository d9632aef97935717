"""HBONE over real sockets and real TLS: what a good peer gets, what a bad one gets, and what is left afterwards."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.discovery.mesh import Mesh
from l4.hbone.connect import Authority, ConnectRequest
from l4.hbone.driver import Driver
from l4.hbone.errors import (
    ConnectFailed,
    ConnectTimedOut,
    HandshakeFailed,
    TunnelError,
    TunnelRefused,
    TunnelReset,
    Unanswered,
)
from l4.hbone.pool import HbonePool
from l4.hbone.server import HboneServer, IncomingTunnel
from l4.hbone.tunnel import Tunnel
from l4.http2 import frames
from l4.http2.engines import Engine
from l4.http2.errors import ErrorCode
from l4.identity.source import WorkloadCertificate
from l4.net.listener import bind
from policies.attributes import Peer as Workload
from tests.contracts.http2_engine import Peer, split
from tests.kit.aio import run
from tests.kit.certificates import MeshPki
from tests.kit.mesh import settled, with_settings

TO = ConnectRequest(Authority("10.0.0.1", 80))
PAIRS = [(ours, theirs) for ours in Engine for theirs in Engine]


class Echo(asyncio.Protocol):
    """Sends back what it gets, at the speed at which that is taken, and ends when the peer has."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Tunnel)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def eof_received(self) -> bool:
        self.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Noting(asyncio.Protocol):
    """Keeps what it gets, and how it ended."""

    def __init__(self) -> None:
        self.data = b""
        self.is_lost = False
        self.error: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Tunnel)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost, self.error = True, error


class Lab:
    """A server as workload `server`, and pools as workload `client`."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings = settings
        self.pki = MeshPki(folder)
        self.client = self.pki.identity("default", "client")
        self.server_identity = self.pki.identity("default", "server")
        self.incoming: list[IncomingTunnel] = []
        self.refused: list[str] = []
        self.protocols: dict[int, asyncio.Protocol] = {}

    def accept(self, incoming: IncomingTunnel) -> None:
        self.incoming.append(incoming)
        if incoming.request.authority.port == 80:
            incoming.accept(Echo())
        elif incoming.request.authority.port == 81:
            incoming.refuse(503)
        elif (protocol := self.protocols.get(incoming.request.authority.port)) is not None:
            incoming.accept(protocol)

    @asynccontextmanager
    async def server(self) -> AsyncIterator[HboneServer]:
        self.pki.certificate(self.client)
        server = HboneServer(
            bind("127.0.0.1", 0),
            certificate=lambda: self.pki.certificate(self.server_identity),
            trust_domains=self.settings.of(Mesh).trust_domains,
            settings=self.settings,
            on_connect=self.accept,
            on_refused=self.refused.append,
        )
        self.address = server.address
        try:
            yield server
        finally:
            await server.close()
            await settled(lambda: server.connection_count == 0)

    async def connect(
        self, pool: HbonePool, request: ConnectRequest = TO, certificate: WorkloadCertificate | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        tunnel = await pool.connect(
            lambda: protocol,
            certificate=certificate or self.pki.certificate(self.client),
            identities=frozenset({self.server_identity}),
            address=self.address,
            request=request,
        )
        return reader, asyncio.StreamWriter(tunnel, protocol, reader, asyncio.get_running_loop())

    def client_context(self) -> ssl.SSLContext:
        return self.pki.certificate(self.client).client_context


@asynccontextmanager
async def pool_of(settings: Settings) -> AsyncIterator[HbonePool]:
    pool = HbonePool(settings)
    try:
        yield pool
    finally:
        await pool.close()
        await settled(lambda: pool.connection_count == 0)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_bytes_pass_both_ways_with_half_close_between_any_two_engines(
    tmp_path: Path, ours: Engine, theirs: Engine
) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=theirs.value))
        async with lab.server(), pool_of(with_settings(http2_engine=ours.value)) as pool:
            reader, writer = await lab.connect(pool)
            content = bytes(range(256)) * 8192  # 2 MiB: more than any window

            async def send() -> None:
                for start in range(0, len(content), 30_000):
                    writer.write(content[start : start + 30_000])
                    await writer.drain()
                writer.write_eof()

            sending = asyncio.ensure_future(send())
            assert await reader.read() == content
            await sending
            writer.close()

    run(scenario())


def test_the_server_knows_who_asks_for_what(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        request = ConnectRequest(Authority("::1", 80), b"k8s.namespace.name=default", b'for="1.2.3.4:5"', b"00-x")
        async with lab.server(), pool_of(lab.settings) as pool:
            _, writer = await lab.connect(pool, request)
            writer.close()

        (incoming,) = lab.incoming
        assert incoming.peer.identity == lab.client
        assert incoming.request == request

    run(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        ConnectRequest(Authority("10.0.0.1\r\nx", 80)),
        ConnectRequest(Authority("a b", 80)),
        ConnectRequest(Authority("", 80), baggage=b"a\r\nx-injected: 1"),
        ConnectRequest(Authority("10.0.0.1", 80), traceparent=b"00-a\n"),
        ConnectRequest(Authority("10.0.0.1", 80), forwarded=b"for=\0"),
    ],
)
def test_a_connect_that_must_not_be_written_fails_alone(tmp_path: Path, request_: ConnectRequest) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server(), pool_of(lab.settings) as pool:
            _, before = await lab.connect(pool)
            for _ in range(2):
                with pytest.raises(TunnelError, match="invalid CONNECT to"):
                    await asyncio.wait_for(lab.connect(pool, request_), 5)
            reader, writer = await lab.connect(pool)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            assert pool.connection_count == 1
            for it in (before, writer):
                it.close()

        assert len(lab.incoming) == 2

    run(scenario())


def test_tunnels_of_one_key_share_a_connection_and_requests_wait_for_one_dial(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server() as server, pool_of(lab.settings) as pool:
            tunnels = await asyncio.gather(*(lab.connect(pool) for _ in range(20)))
            assert pool.connection_count == server.connection_count == 1
            for _, writer in tunnels:
                writer.close()

    run(scenario())


def test_a_full_connection_is_joined_by_another_and_has_room_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = with_settings(pool_streams_per_connection=2)
        lab = Lab(tmp_path, settings)
        async with lab.server(), pool_of(settings) as pool:
            tunnels = await asyncio.gather(*(lab.connect(pool) for _ in range(4)))
            assert pool.connection_count == 2
            for _, writer in tunnels:
                writer.transport.abort()
            again = await asyncio.gather(*(lab.connect(pool) for _ in range(4)))
            assert pool.connection_count == 2
            for _, writer in again:
                writer.close()

    run(scenario())


def test_a_connection_without_tunnels_is_closed_after_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = with_settings(pool_idle_seconds=0.05)
        lab = Lab(tmp_path, settings)
        async with lab.server() as server, pool_of(settings) as pool:
            _, writer = await lab.connect(pool)
            await asyncio.sleep(0.1)
            assert pool.connection_count == 1
            writer.transport.abort()
            await settled(lambda: pool.connection_count == 0 and server.connection_count == 0)

    run(scenario())


def test_a_draining_server_finishes_its_tunnels_and_takes_no_new_ones(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server() as server, pool_of(lab.settings) as pool:
            reader, writer = await lab.connect(pool)
            draining = asyncio.ensure_future(server.drain(10))
            await settled(lambda: pool.connection_count == 1)
            await asyncio.sleep(0.05)
            with pytest.raises(TunnelError):
                await lab.connect(pool)
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            writer.close()
            await draining

    run(scenario())


def test_a_server_that_must_not_wait_any_longer_cuts_what_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server() as server, pool_of(lab.settings) as pool:
            reader, _ = await lab.connect(pool)
            await server.drain(0.05)
            with pytest.raises((TunnelReset, asyncio.IncompleteReadError)):
                await reader.readexactly(1)

    run(scenario())


def test_a_refusal_carries_its_status(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server(), pool_of(lab.settings) as pool:
            with pytest.raises(TunnelRefused) as refused:
                await lab.connect(pool, ConnectRequest(Authority("10.0.0.1", 81)))

        assert refused.value.status == 503
        assert refused.value.is_undelivered

    run(scenario())


@pytest.mark.parametrize("engine", list(Engine))
def test_what_a_peer_aborts_is_lost_on_the_other_side(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value))
        async with lab.server() as server, pool_of(lab.settings) as pool:
            _, writer = await lab.connect(pool)
            writer.write(b"x")
            writer.transport.abort()
            await settled(lambda: server.tunnel_count == 0)

    run(scenario())


@pytest.mark.parametrize("engine", list(Engine))
def test_what_was_written_in_the_same_turn_as_an_abort_arrives_before_it(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value))
        async with lab.server(), pool_of(lab.settings) as pool:
            breaking, got = Noting(), Noting()
            lab.protocols[83] = breaking
            await pool.connect(
                lambda: got,
                certificate=lab.pki.certificate(lab.client),
                identities=frozenset({lab.server_identity}),
                address=lab.address,
                request=ConnectRequest(Authority("10.0.0.1", 83)),
            )
            breaking.transport.write(b"first ")
            breaking.transport.write(b"last")
            breaking.transport.abort()
            await settled(lambda: got.is_lost)

            assert got.data == b"first last"
            assert isinstance(got.error, TunnelReset)

    run(scenario())


def test_a_paused_reader_stops_its_peer_and_not_its_neighbours(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = with_settings(hbone_stream_window=1 << 16)
        lab = Lab(tmp_path, settings)
        async with lab.server(), pool_of(settings) as pool:
            _, slow = await lab.connect(pool)
            slow.transport.pause_reading()
            for _ in range(100):
                slow.write(bytes(10_000))
            reader, writer = await lab.connect(pool)
            writer.write(b"quick")
            assert await reader.readexactly(5) == b"quick"
            assert slow.transport.get_write_buffer_size() > 500_000
            writer.close()
            slow.transport.abort()

    run(scenario())


# -- peers that may not come in ------------------------------------------------------------------------------------


def test_another_trust_domain_is_cut_before_a_byte_of_http(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        pair = lab.pki.leaf(["spiffe://elsewhere.example/ns/default/sa/client"])
        foreign = lab.pki.write(lab.pki.identity("default", "foreign"), pair)
        async with lab.server() as server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(lab.pki.bundle_path)
            context.load_cert_chain(foreign, foreign.with_suffix(".key"))
            context.set_alpn_protocols(["h2"])
            assert await _bytes_from(lab.address, context) == b""
            assert server.connection_count == 0

    run(scenario())


@pytest.mark.parametrize("kind", ["no certificate", "tls 1.2", "no alpn"])
def test_a_handshake_that_is_not_ours_gets_no_byte_of_http(tmp_path: Path, kind: str) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server() as server:
            chain = lab.pki.write(lab.client)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(lab.pki.bundle_path)
            if kind != "no certificate":
                context.load_cert_chain(chain, chain.with_suffix(".key"))
            if kind != "no alpn":
                context.set_alpn_protocols(["h2"])
            if kind == "tls 1.2":
                context.maximum_version = ssl.TLSVersion.TLSv1_2
            assert await _bytes_from(lab.address, context) == b""
            assert server.connection_count == 0

    run(scenario())


async def _bytes_from(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    """What the server says to a client that shakes hands and sends the preface; nothing, when it refuses."""
    try:
        reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname="")
    except (ssl.SSLError, ConnectionError):
        return b""
    try:
        writer.write(frames.PREFACE + frames.settings_frame({}))
        return await reader.read()
    except (ssl.SSLError, ConnectionError):
        return b""
    finally:
        writer.transport.abort()


def test_a_server_that_is_someone_else_is_not_spoken_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server(), pool_of(lab.settings) as pool:
            lab.server_identity = lab.pki.identity("default", "other")
            real = lab.pki.identity("default", "server")
            lab.pki._certificates[lab.server_identity] = lab.pki.certificate(real)
            with pytest.raises(HandshakeFailed, match="expected was"):
                await lab.connect(pool)
            assert lab.incoming == []

    run(scenario())


# -- peers that misbehave ------------------------------------------------------------------------------------------


@asynccontextmanager
async def raw_client(
    lab: Lab, silence_seconds: float = 0.3
) -> AsyncIterator[Callable[[bytes], "asyncio.Future[bytes]"]]:
    """A client with good TLS and hand-made frames: sends bytes, gives what comes until the server closes or some time
    has passed without a byte. What came before a reset counts: a StreamReader would forget it."""
    transport, heard = await asyncio.get_running_loop().create_connection(
        _Heard, *lab.address, ssl=lab.client_context(), server_hostname=""
    )
    transport.write(frames.PREFACE + frames.settings_frame({}))

    async def exchange(data: bytes) -> bytes:
        transport.write(data)
        known = -1
        while not heard.is_over.is_set() and len(heard.data) != known:
            known = len(heard.data)
            with suppress(TimeoutError):
                await asyncio.wait_for(heard.is_over.wait(), silence_seconds)
        answer, heard.data = heard.data, b""
        return answer

    try:
        yield lambda data: asyncio.ensure_future(exchange(data))
    finally:
        transport.abort()


class _Heard(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""
        self.is_over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.is_over.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over.set()


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize(
    "headers",
    [
        [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"10.0.0.1:80")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1")],
        [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:99999")],
        [(b":method", b"CONNECT"), (b":authority", b"user@10.0.0.1:80")],
    ],
)
def test_a_request_that_is_no_tunnel_is_answered_400(
    tmp_path: Path, headers: list[tuple[bytes, bytes]], engine: Engine
) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value))
        script = Peer.client_of(engine)
        async with lab.server(), raw_client(lab) as exchange:
            answer = await exchange(script.headers(1, headers))

        heads = [payload for kind, _, stream, payload in split(answer) if kind == frames.HEADERS and stream == 1]
        assert [dict(script.decoder.decode(head, raw=True)) for head in heads] == [{b":status": b"400"}]
        assert lab.incoming == []

    run(scenario())


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (frames.frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR),
        (frames.frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (b"\xff\xff\xff\x01\x04\x00\x00\x00\x01", ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_malformed_frames_end_the_connection_with_the_right_code(
    tmp_path: Path, garbage: bytes, code: ErrorCode, engine: Engine
) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(http2_engine=engine.value))
        async with lab.server() as server, raw_client(lab) as exchange:
            answer = await exchange(garbage)
            await settled(lambda: server.connection_count == 0)

        goaway = [payload for kind, _, _, payload in split(answer) if kind == frames.GOAWAY]
        assert int.from_bytes(goaway[-1][4:8]) == code

    run(scenario())


def test_a_peer_that_vanishes_is_noticed_by_its_silence(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(ping_interval_seconds=0.05, ping_timeout_seconds=0.1))
        script = Peer.client_of(Engine.EXPRESS)
        async with lab.server() as server:
            reader, writer = await asyncio.open_connection(*lab.address, ssl=lab.client_context(), server_hostname="")
            connect = [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80")]
            writer.write(frames.PREFACE + frames.settings_frame({}) + script.headers(1, connect))
            await settled(lambda: server.tunnel_count == 1)
            await settled(lambda: server.connection_count == 0)  # it never answered a PING
            assert server.tunnel_count == 0
            writer.transport.abort()
            del reader

    run(scenario())


def test_a_port_where_nobody_listens_is_a_failed_connect(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server():
            pass
        async with pool_of(lab.settings) as pool:
            with pytest.raises(ConnectFailed, match="refused"):
                await lab.connect(pool)

    run(scenario())


def test_a_server_that_never_answers_connect_is_not_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = with_settings(connect_seconds=0.3)
        lab = Lab(tmp_path, settings)
        async with lab.server() as server, pool_of(settings) as pool:
            with pytest.raises(ConnectTimedOut):
                await lab.connect(pool, ConnectRequest(Authority("10.0.0.1", 82)))
            await settled(lambda: server.tunnel_count == 0)

    run(scenario())


def test_who_has_connected_before_the_end_began_is_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        async with lab.server() as server:
            loop = asyncio.get_running_loop()
            sock = socket.create_connection(lab.address)  # in the backlog: the loop has had no turn since
            draining = asyncio.ensure_future(server.drain(10))
            await asyncio.sleep(0.1)
            driver = Driver(lab.settings, is_client=True, authenticate=lambda transport: Workload(None, *lab.address))
            await loop.create_connection(lambda: driver, ssl=lab.client_context(), server_hostname="", sock=sock)
            reader = asyncio.StreamReader()
            tunnel = await driver.open(TO, lambda: asyncio.StreamReaderProtocol(reader))
            tunnel.write(b"here in time")
            heard = await reader.readexactly(12)
            tunnel.close()
            await draining

            assert heard == b"here in time"

    run(scenario())


@pytest.mark.parametrize(
    "refusal",
    [
        frames.goaway_frame(0, ErrorCode.NO_ERROR, b""),
        frames.rst_stream_frame(1, ErrorCode.REFUSED_STREAM),
    ],
    ids=["GOAWAY", "REFUSED_STREAM"],
)
@pytest.mark.parametrize("refusals", [1, 5])
def test_a_tunnel_that_a_connection_did_not_take_is_asked_for_on_another_one(
    tmp_path: Path, refusal: bytes, refusals: int
) -> None:
    """By a server of raw frames, which takes the first tunnel of a connection only after so many refused ones."""

    async def scenario() -> None:
        lab = Lab(tmp_path, Settings())
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            writer.write(frames.settings_frame({}))
            data = b""
            while not any(kind == frames.HEADERS for kind, *_ in split(data.removeprefix(frames.PREFACE))):
                data += await reader.read(1 << 16)
            is_refused = connections <= refusals
            writer.write(refusal if is_refused else frames.frame(frames.HEADERS, 4, 1, b"\x88"))  # :status 200
            await reader.read()
            writer.close()

        context = lab.pki.certificate(lab.server_identity).server_context
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        lab.address = server.sockets[0].getsockname()
        async with pool_of(lab.settings) as pool:
            if refusals == 1:
                _, writer = await lab.connect(pool)
                writer.transport.abort()
            else:
                with pytest.raises(ConnectFailed):
                    await lab.connect(pool)
        server.close()
        await server.wait_closed()

        assert connections == (2 if refusals == 1 else 3)

    run(scenario())


def test_a_peer_that_is_alive_but_slow_to_answer_is_not_taken_for_dead(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(connect_seconds=1.5))
        async with lab.server(), pool_of(lab.settings) as pool:
            with pytest.raises(Unanswered):
                await lab.connect(pool, ConnectRequest(Authority("10.0.0.1", 82)))  # nobody decides about it

            _, writer = await lab.connect(pool)
            assert pool.connection_count == 1
            writer.transport.abort()

    run(scenario())


def test_a_pooled_connection_whose_peer_is_frozen_is_not_used_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        lab = Lab(tmp_path, with_settings(connect_seconds=1.5))
        async with lab.server() as server, pool_of(lab.settings) as pool:
            _, first = await lab.connect(pool)
            [frozen] = server.drivers
            frozen.transport.pause_reading()

            with pytest.raises(ConnectTimedOut) as failure:
                await lab.connect(pool)
            _, second = await lab.connect(pool)

            assert not isinstance(failure.value, Unanswered)
            assert pool.connection_count == 2
            frozen.transport.resume_reading()
            first.transport.abort()
            second.transport.abort()

    run(scenario())
