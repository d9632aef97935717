"""Every pair of peers around our waypoint, under istiod's certificates: see `tests.cluster.matrix`."""

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from policies.attributes import Identity
from tests.cluster import hbone_peers
from tests.cluster.echo import call
from tests.cluster.matrix import LIFE, SOURCES, Matrix, matrix
from tests.cluster.matrix_objects import (
    DESTINATIONS,
    HBONE,
    IMPOSTORS,
    NAME,
    PORTS,
    SERVICES,
    WAYPOINTS,
    behind,
    identity,
)
from tests.cluster.waiting import until
from tests.kit.aio import run
from tests.kit.certificates import MeshPki, Pair
from tests.kit.origin import answering, origin

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(180)]
each_cell = pytest.mark.parametrize(
    ("source", "waypoint", "destination"), list(product(SOURCES, WAYPOINTS, DESTINATIONS))
)
CLIENT, WAYPOINT, APP = (str(identity(it)) for it in ("client", "waypoint", "app"))
SENT = {
    "x-own": "kept",
    "forwarded": "for=192.0.2.7",
    "x-forwarded-for": "192.0.2.7",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "baggage": "user=7,k8s.namespace.name=made-up",
    "x-forwarded-client-cert": "URI=spiffe://made/up",
    "x-envoy-attempt-count": "9",
}
SEEN = {
    "x-own": "kept",
    "forwarded": "for=192.0.2.7",
    "x-forwarded-for": "192.0.2.7",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "x-forwarded-client-cert": f"By={WAYPOINT};URI={CLIENT}",
    "x-forwarded-proto": "http",
}
SEEN_BEHIND = {
    "ours": {**SEEN, "baggage": "user=7", "x-envoy-attempt-count": "1"},
    "theirs": {**SEEN, "baggage": "user=7,k8s.namespace.name=made-up", "x-envoy-attempt-count": "9"},
}
"""What the application gets of it, and what the waypoint adds, besides an id."""
BY_CLIENTS = {"accept-encoding", "user-agent", "content-type", ":authority", "connection", "upgrade", "content-length"}
"""What the clients of each protocol send by themselves."""
PROTOCOLS = {
    "HTTP/1.1": ("http", (), "HTTP/1.1"),
    "HTTP/2 to an application of HTTP/1.1": ("http", ("--http2",), "HTTP/1.1"),
    "HTTP/2": ("h2c", ("--http2",), "HTTP/2.0"),
    "gRPC": ("grpc", (), "GRPC"),
    "WebSocket": ("ws", (), "HTTP/1.1"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with matrix(tmp_path_factory.mktemp("matrix")) as it:
        yield it


# -- what passes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@each_cell
def test_a_request_and_its_headers(world: Matrix, source: str, waypoint: str, destination: str, protocol: str) -> None:
    port, flags, version = PROTOCOLS[protocol]
    headers = [f'--header="{name}:{value}"' for name, value in SENT.items()]

    answer = call(world.url(source, behind(waypoint, destination), port), *flags, *headers)

    assert answer.ok, answer.text
    assert answer.one("ServiceVersion") == destination
    assert answer.one("Proto") == version
    assert answer.one("Host") == world.url(source, behind(waypoint, destination), port).partition("//")[2]
    its = {name: value for name, value in answer.seen.items() if not name.startswith(("sec-", "testweb"))}
    assert len(its.pop("x-request-id")) == 36
    if protocol == "gRPC":
        assert 4000 < int(its.pop("x-envoy-expected-rq-timeout-ms")) <= 5000  # the client's own deadline
    assert {name: value for name, value in its.items() if name not in BY_CLIENTS} == SEEN_BEHIND[waypoint]


TARGETS = {
    "/a//b/./c/../d": "/a//b/d",
    "/%61%2Fb%5c": "/a%2Fb%5c",
    "/a\\b": "/a/b",
    "/a?b=/../c//%2f": "/a?b=/../c//%2f",
    "/a;v=1/%00": None,
    "/a/../../b": "/b",
}
"""Targets of requests, and what the application gets of them. None: both answer 400."""


@pytest.mark.parametrize("waypoint", WAYPOINTS)
def test_paths_are_normalized_alike(world: Matrix, waypoint: str) -> None:
    entry = world.entries["ztunnel", "client", behind(waypoint, "behind-ztunnel")]

    def arrives(target: str) -> str | None:
        request = f"GET {target} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
        answer = exchanged(entry, request.encode(), "http").decode()
        if answer.startswith("HTTP/1.1 400"):
            return None
        return answer.partition("URL=")[2].partition("\n")[0]

    assert {it: arrives(it) for it in TARGETS} == TARGETS


@each_cell
def test_many_requests_on_one_connection(world: Matrix, source: str, waypoint: str, destination: str) -> None:
    for port, flags in (("http", ()), ("h2c", ("--http2",)), ("grpc", ())):
        answer = call(world.url(source, behind(waypoint, destination), port), "--count=200", *flags)

        assert answer.ok, answer.text[-2000:]
        assert answer.statuses == [200] * 200


@each_cell
def test_bodies_stream_both_ways_at_once(world: Matrix, source: str, waypoint: str, destination: str) -> None:
    async def echo_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (size := int(await reader.readuntil(b"\r\n"), 16)) or writer.write(b"0\r\n\r\n"):
            writer.write(b"%x\r\n%b" % (size, await reader.readexactly(size + 2)))
            await writer.drain()
        await reader.readuntil(b"\r\n")

    async def scenario() -> None:
        parts = [b"first", b"x" * 300_000, b"last"]
        async with origin(world.pods[destination], echo_chunks, PORTS["own"].pod):
            reader, writer = await opened(world, source, behind(waypoint, destination))
            with closing(writer):
                writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n")
                for part in parts:
                    writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                    if part is parts[0]:
                        head = await reader.readuntil(b"\r\n\r\n")
                    assert await exactly(reader, len(part)) == part  # before the next part is sent
                writer.write(b"0\r\n\r\n")
                assert await reader.readuntil(b"\r\n\r\n") == b"0\r\n\r\n"

        assert head.startswith(b"HTTP/1.1 200")

    run(scenario(), 30)


async def exactly(reader: asyncio.StreamReader, length: int) -> bytes:
    """So many bytes of a chunked body."""
    body = b""
    while len(body) < length:
        size = int(await reader.readuntil(b"\r\n"), 16)
        body += (await reader.readexactly(size + 2))[:-2]
    return body


async def opened(
    world: Matrix, source: str, service: str, port: str = "own"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(world.entries[source, "client", service], PORTS[port].service)


@each_cell
def test_bytes_and_their_end_pass_in_both_directions(
    world: Matrix, source: str, waypoint: str, destination: str
) -> None:
    async def answers_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello|" + await reader.read())

    async def scenario() -> None:
        async with origin(world.pods[destination], answers_at_the_end, PORTS["tcp"].pod):
            reader, writer = await opened(world, source, behind(waypoint, destination), "tcp")
            with closing(writer):
                writer.write(b"z" * 200_000)
                writer.write_eof()
                assert await reader.read() == b"hello|" + b"z" * 200_000

    run(scenario(), 30)


# -- who is at the other end -------------------------------------------------------------------------------------------


@each_cell
def test_each_border_knows_who_is_behind_it(world: Matrix, source: str, waypoint: str, destination: str) -> None:
    before = {name: len(lines(world, name)) for name in ("ztunnel-near", "ztunnel-far", "envoy-client", "envoy-server")}

    answer = call(
        world.url(source, behind(waypoint, destination), "ws")
    )  # its tunnels end with it, so that ztunnels tell of them

    def told(name: str, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in lines(world, name)[before[name] :])

    assert answer.seen["x-forwarded-client-cert"] == f"By={WAYPOINT};URI={CLIENT}"
    if source == "ztunnel":
        vip = f"{SERVICES[behind(waypoint, destination)].vip}:{PORTS['http'].service}"
        own = [f'src.identity="{CLIENT}"', f'dst.identity="{WAYPOINT}"', f'dst.hbone_addr="{vip}"']
        until(lambda: told("ztunnel-near", *own), 10)
    else:
        entry = world.url(source, behind(waypoint, destination)).removeprefix("http://")
        until(lambda: told("envoy-client", entry, f'"peer":"{WAYPOINT}"'), 10)
    pod = f"{world.pods[destination]}:{PORTS['http'].pod}"
    if destination == "behind-ztunnel":
        own = [f'src.identity="{WAYPOINT}"', f'dst.identity="{APP}"', f'dst.hbone_addr="{pod}"']
        until(lambda: told("ztunnel-far", *own), 10)
    else:
        until(lambda: told("envoy-server", f'"authority":"{pod}"', f'"peer":"{WAYPOINT}"'), 10)
        said = [it for it in map(json.loads, lines(world, "envoy-server")) if it["peer"] == WAYPOINT]
        assert {it[name] for it in said for name in hbone_peers.CONNECT_HEADERS} == {None}  # nothing of the client


def test_our_ztunnel_tells_a_server_of_hbone_who_calls(world: Matrix) -> None:
    answer = call(world.url("ztunnel", "straight-to-right"))

    pod = f"{world.pods['right']}:{PORTS['http'].pod}"

    def said() -> list[dict[str, str]]:
        its = map(json.loads, lines(world, "envoy-server"))
        return [it for it in its if (it["peer"], it["authority"]) == (CLIENT, pod)]

    assert answer.one("ServiceVersion") == "behind-envoy"
    its = until(said, 10)[-1]
    baggage = dict(it.split("=") for it in its["baggage"].split(","))
    assert baggage["k8s.namespace.name"] == NAME
    assert baggage["k8s.pod.name"] == "client"
    assert its["forwarded"].startswith("for=")


def lines(world: Matrix, name: str) -> list[str]:
    log = world.log(name)
    return log.read_text().splitlines() if log.exists() else []


# -- who may -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@each_cell
def test_the_waypoint_lets_in_by_the_client_s_identity(
    world: Matrix, source: str, waypoint: str, destination: str, protocol: str
) -> None:
    port, flags, _ = PROTOCOLS[protocol]
    guarded = "--header=x-guarded:yes"

    assert call(world.url(source, behind(waypoint, destination), port), guarded, *flags).ok
    assert call(world.url(source, behind(waypoint, destination), port, account="stranger"), *flags).ok
    denied = call(world.url(source, behind(waypoint, destination), port, account="stranger"), guarded, *flags)

    if port == "http" or port == "h2c":
        assert denied.one("StatusCode") == "403"
        assert "RBAC: access denied" in denied.text
    else:
        assert not denied.ok
        assert ("PermissionDenied" if port == "grpc" else "bad handshake") in denied.text


@each_cell
def test_the_destination_lets_in_the_waypoint_alone(
    world: Matrix, source: str, waypoint: str, destination: str
) -> None:
    before = world.log("ztunnel-far").read_text()

    straight = call(world.url(source, f"pod-{destination}"))

    assert not straight.ok
    if destination == "behind-ztunnel":
        refused = [f'src.identity="{CLIENT}"', "connection closed due to policy rejection"]
        until(lambda: all(it in world.log("ztunnel-far").read_text().removeprefix(before) for it in refused), 10)


@pytest.mark.parametrize("waypoint", WAYPOINTS)
def test_another_client_of_hbone_reaches_what_is_served_alone(world: Matrix, waypoint: str) -> None:
    """Istio's echo client opens the tunnel itself."""
    its = world.certificate("client")
    pod = world.pods["waypoint" if waypoint == "ours" else "theirs"]
    flags = (f"--hbone={pod}:{HBONE}", f"--hbone-client-cert={its.chain}", f"--hbone-client-key={its.key}")
    vip = SERVICES[behind(waypoint, "behind-ztunnel")].vip

    served = call(f"http://{vip}:80", *flags, "--hbone-insecure-skip-verify")
    others = [call(f"http://{it}", *flags, "--hbone-insecure-skip-verify") for it in (f"{vip}:9999", "10.97.0.250:80")]

    assert served.one("ServiceVersion") == "behind-ztunnel"
    why = ["404 Not Found", "404 Not Found"] if waypoint == "ours" else ["EOF", "503 Service Unavailable"]
    assert [said in it.text for said, it in zip(why, others, strict=True)] == [True, True]


# -- certificates ------------------------------------------------------------------------------------------------------


def shown(world: Matrix) -> dict[str, Pair | None]:
    pki, other = world.istiod.pki, MeshPki(world.folder / "root-of-a-client")
    right = world.certificate("client")
    return {
        "istiod's": Pair(right.chain.read_bytes(), right.key.read_bytes()),
        "none": None,
        "of another root": other.leaf([CLIENT]),
        "of another trust domain": pki.leaf([str(Identity("elsewhere.local", NAME, "client"))]),
        "expired": pki.leaf([CLIENT], ends=timedelta(minutes=-1)),
        "without an identity": pki.leaf(dns=["client.example"]),
        "of two identities": pki.leaf([CLIENT, WAYPOINT]),
        "for servers": pki.leaf([CLIENT], usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
    }


@pytest.mark.parametrize("pod", ["waypoint", "behind-ztunnel", "theirs"])
def test_servers_talk_to_certificates_of_the_mesh_alone(world: Matrix, pod: str) -> None:
    allowed = {"istiod's", "of two identities"} if pod == "theirs" else {"istiod's"}

    talks = {name for name, pair in shown(world).items() if talks_http2(world.pods[pod], pair, world.folder / "shown")}

    assert talks == allowed


def talks_http2(ip: str, pair: Pair | None, file: Path) -> bool:
    """Whether the server at the HBONE port answers the first bytes of HTTP/2 after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if pair is not None:
        file.write_bytes(pair.chain_pem + pair.key_pem)
        context.load_cert_chain(file)
    try:
        with (
            socket.create_connection((ip, HBONE), timeout=5) as raw,
            context.wrap_socket(raw) as connection,
        ):
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            return connection.recv(9)[3:4] == b"\x04"
    except (ssl.SSLError, ConnectionError):
        return False


WHY = {
    "other-account": f"has the wrong identity: the server is {identity('stranger')}",
    "other-root": "CERTIFICATE_VERIFY_FAILED",
    "other-domain": "has the wrong identity: the server is spiffe://elsewhere.local",
}
"""In the waypoint's log."""


@pytest.mark.parametrize("kind", IMPOSTORS)
@pytest.mark.parametrize("waypoint", WAYPOINTS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_waypoint_sends_nothing_to_an_impostor(world: Matrix, source: str, waypoint: str, kind: str) -> None:
    before = len(lines(world, "waypoint"))
    trusted = {"right"} if waypoint == "ours" else {"right", "other-account"}  # Istio's trusts the whole trust domain

    answer = call(world.url(source, behind(waypoint, f"to-{kind}")))

    if kind in trusted:
        assert answer.one("ServiceVersion") == "behind-envoy"
    else:
        assert answer.one("StatusCode") == "503"
        if waypoint == "ours":
            until(lambda: any(WHY[kind] in line for line in lines(world, "waypoint")[before:]), 10)


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_our_ztunnel_sends_nothing_to_an_impostor(world: Matrix, kind: str) -> None:
    answer = call(world.url("ztunnel", f"straight-to-{kind}"))

    assert answer.ok == (kind == "right")
    if kind == "right":
        assert answer.one("ServiceVersion") == "behind-envoy"


def test_our_ztunnel_sends_nothing_to_an_impostor_of_the_waypoint(world: Matrix) -> None:
    assert not call(world.url("ztunnel", "misled")).ok


def test_certificates_are_renewed_and_connections_end_with_them_without_a_failed_request(world: Matrix) -> None:
    def signed(program: str) -> int:
        return (world.folder / f"{program}.log").read_text().count(" signed, valid until ")

    before = {it: signed(it) for it in ("waypoint", "ztunnel-near", "ztunnel-far")}
    """Istio's waypoint has no part in it: it cannot tell clients of HTTP that the tunnel they are in will end."""
    cells = list(product(SOURCES, DESTINATIONS, ("http", "grpc")))
    rate, count = 20, 20 * (LIFE + 2)

    def load(source: str, destination: str, port: str) -> str:
        path = "/quick?delay=700ms" if port == "http" else ""  # always some are under way
        answer = call(
            world.url(source, destination, port, path=path), f"--count={count}", f"--qps={rate}", "--timeout=60s"
        )
        return "" if answer.statuses == [200] * count else answer.text[-500:]

    with ThreadPoolExecutor(len(cells)) as threads:
        failed = {
            cell: said for cell, said in zip(cells, threads.map(lambda it: load(*it), cells), strict=True) if said
        }

    assert failed == {}
    assert all(signed(it) - number >= 2 for it, number in before.items())


# -- what fails --------------------------------------------------------------------------------------------------------


@each_cell
def test_a_request_that_a_border_refuses_goes_to_another_endpoint_with_ours(
    world: Matrix, source: str, waypoint: str, destination: str
) -> None:
    request = b"POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
    entry = world.entries[source, "client", behind(waypoint, "either")]

    async def scenario() -> list[bytes]:
        async with origin(world.pods[destination], answering(destination.encode()), PORTS["own"].pod):
            return [(await asyncio.to_thread(exchanged, entry, request))[9:12] for _ in range(20)]

    statuses = run(scenario(), 30)

    if waypoint == "ours":
        assert statuses == [b"200"] * 20
    else:
        assert b"503" in statuses


@each_cell
def test_an_application_that_is_away_is_503(world: Matrix, source: str, waypoint: str, destination: str) -> None:
    answer = call(world.url(source, behind(waypoint, destination), "own"))

    assert answer.one("StatusCode") == "503"


@pytest.mark.parametrize("port", ["http", "h2c", "grpc"])
@pytest.mark.parametrize("source", SOURCES)
def test_an_hbone_server_that_ends_its_connections_all_the_time_fails_no_request(
    world: Matrix, source: str, port: str
) -> None:
    flags = ["--http2"] if port == "h2c" else []
    pod = f'"authority":"{world.pods["right"]}:'

    def tunnels() -> int:
        return sum(pod in line for line in lines(world, "envoy-server"))

    before = tunnels()
    answer = call(world.url(source, "to-right", port), "--count=150", "--qps=75", *flags)

    assert answer.statuses == [200] * 150, answer.text[-500:]
    until(lambda: tunnels() - before >= 4, 10)


@each_cell
def test_a_request_that_lasts_too_long_is_504_and_the_connection_goes_on(
    world: Matrix, source: str, waypoint: str, destination: str
) -> None:
    late = call(world.url(source, behind(waypoint, destination), path="/slow?delay=1s"), "--count=2")
    good = call(world.url(source, behind(waypoint, destination), path="/quick?delay=1s"))

    assert late.statuses == [504, 504]
    assert good.statuses == [200]


@each_cell
def test_a_client_of_the_mesh_sets_its_own_timeout_with_ours(
    world: Matrix, source: str, waypoint: str, destination: str
) -> None:
    url = world.url(source, behind(waypoint, destination), path="/quick?delay=1s")

    answer = call(url, "--header=x-envoy-upstream-rq-timeout-ms:300")

    assert answer.statuses == [504 if waypoint == "ours" else 200]


@each_cell
def test_a_response_that_breaks_off_is_not_taken_for_whole(
    world: Matrix, source: str, waypoint: str, destination: str
) -> None:
    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()

    async def scenario() -> None:
        async with origin(world.pods[destination], breaks_off, PORTS["own"].pod):
            entry = world.entries[source, "client", behind(waypoint, destination)]
            answer = await asyncio.to_thread(exchanged, entry, b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")

        assert b"\r\n0\r\n\r\n" not in answer
        if source == "ztunnel":  # Envoy drops what it has not passed on when a tunnel is reset
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"3\r\nabc\r\n")

    run(scenario(), 30)


def exchanged(ip: str, request: bytes, port: str = "own") -> bytes:
    """All of an answer that comes, also if a reset comes after it."""
    answer = b""
    with socket.create_connection((ip, PORTS[port].service), timeout=10) as connection, suppress(ConnectionError):
        connection.sendall(request)
        while part := connection.recv(65536):
            answer += part
    return answer


@each_cell
def test_a_request_that_breaks_off_is_not_taken_for_whole(
    world: Matrix, source: str, waypoint: str, destination: str
) -> None:
    ended = asyncio.Event()
    got = b""

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                got += part
        ended.set()

    async def scenario() -> None:
        async with origin(world.pods[destination], listens, PORTS["own"].pod):
            _, writer = await opened(world, source, behind(waypoint, destination))
            writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            async with asyncio.timeout(10):
                while b"abc" not in got:  # noqa: ASYNC110 - it passes three processes
                    await asyncio.sleep(0.01)
                writer.close()
                await ended.wait()

        assert b"\r\n0\r\n\r\n" not in got

    run(scenario(), 30)
