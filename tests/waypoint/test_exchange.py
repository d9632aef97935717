"""Requests through a whole mesh in one process: real TLS, real tunnels, both HTTP/2 engines, origins that misbehave."""

import asyncio
import re
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelRefused, TunnelReset
from l4.http2.engines import Engine
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import answering, origin
from waypoint.http.settings import HttpSettings

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules: [%s]
"""


def route(rules: str) -> str:
    return ROUTE % rules


class Setting:
    """Addresses of one waypoint, one service and one or more pods."""

    def __init__(self, pods: int = 1, **settings: object) -> None:
        self.waypoint, self.vip = address(), address()
        self.pods = {f"app-{number}": address() for number in range(pods)}
        self.settings = with_settings(**settings)

    @property
    def authority(self) -> str:
        return f"{self.vip}:9080"

    @property
    def pod(self) -> str:
        return self.pods["app-0"]

    def manifests(self, more: str = "") -> str:
        return manifests(waypoint=self.waypoint, vip=self.vip, pods=self.pods, more=more)

    def mesh(self, folder: Path, more: str = "") -> "asyncio.AbstractAsyncContextManager[Mesh]":  # type: ignore[name-defined]
        return mesh(folder, self.manifests(more), self.waypoint, self.settings)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("engine", list(Engine))
def test_a_request_reaches_the_application_and_its_answer_comes_back(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        at = Setting(http2_engine=engine.value)
        async with origin(at.pod, answering(b"hello", headers="X-From: app\r\n")) as seen, at.mesh(tmp_path) as it:
            answer = await it.get(at.authority, "/a?b=c", "User-Agent: test\r\n")

        assert status(answer) == 200
        assert body(answer) == b"hello"
        assert b"x-from: app" in answer
        assert b"server: istio-envoy" in answer
        head = seen.heads[0]
        assert head.startswith(b"GET /a?b=c HTTP/1.1\r\nhost: app\r\n")
        assert re.search(
            rb"x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\r\n", head
        )
        assert b"x-envoy-attempt-count: 1\r\n" in head

    run(scenario())


@pytest.mark.parametrize(("sent", "is_kept"), [("a" * 128, True), ("a" * 129, False)])
def test_a_request_id_is_kept_unless_it_is_too_long(tmp_path: Path, sent: str, is_kept: bool) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            await it.get(at.authority, headers=f"X-Request-Id: {sent}\r\n")

        assert (f"x-request-id: {sent}\r\n".encode() in seen.heads[0]) == is_kept
        assert seen.heads[0].count(b"x-request-id: ") == 1

    run(scenario())


def test_the_exchange_is_reported_once_with_both_identities(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path) as it:
            await it.get(at.authority, "/a")
            await settled(lambda: "GET /a" in it.access_log)
            text = it.metrics.render("")[0].decode()

        (line,) = [line for line in text.splitlines() if line.startswith("istio_requests_total")]
        assert line.endswith((" 1", " 1.0"))
        for label in (
            'reporter="waypoint"',
            'source_principal="spiffe://cluster.local/ns/default/sa/client"',
            'destination_principal="spiffe://cluster.local/ns/default/sa/app"',
            'destination_service="app.default.svc.cluster.local"',
            'response_code="200"',
            'response_flags="-"',
            'connection_security_policy="mutual_tls"',
        ):
            assert label in line
        assert '"GET /a HTTP/1.1" 200 - via_upstream' in it.access_log
        assert "inbound-vip|9080|http|app.default.svc.cluster.local" in it.access_log

    run(scenario())


@pytest.mark.parametrize(
    ("rules", "expected", "expected_body", "flag", "detail"),
    [
        (
            "{matches: [{path: {value: /other}}], backendRefs: [{name: app, port: 9080}]}",
            404,
            b"",
            "NR",
            "route_not_found",
        ),
        ("{backendRefs: [{name: nowhere, port: 9080}]}", 500, b"", "NC", "cluster_not_found"),
        ("{backendRefs: [{name: app, port: 9080, weight: 0}]}", 500, b"", "-", "direct_response"),
        ("{matches: [{method: GET}]}", 500, b"", "-", "direct_response"),
    ],
)
def test_what_no_backend_answers_is_answered_as_envoy_would(
    tmp_path: Path, rules: str, expected: int, expected_body: bytes, flag: str, detail: str
) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path, route(rules)) as it:
            answer = await it.get(at.authority)
            await settled(lambda: "GET /" in it.access_log)

        assert status(answer) == expected
        assert body(answer) == expected_body
        assert b"content-type" not in answer
        assert f'HTTP/1.1" {expected} {flag} {detail}' in it.access_log

    run(scenario())


def test_without_a_healthy_endpoint_the_answer_is_503(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=0)
        async with at.mesh(tmp_path) as it:
            answer = await it.get(at.authority)
            await settled(lambda: " UH " in it.access_log)

        assert status(answer) == 503
        assert body(answer) == b"no healthy upstream"
        assert b"content-type: text/plain\r\n" in answer

    run(scenario())


def test_an_application_that_refuses_is_answered_503_after_two_more_tries(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with at.mesh(tmp_path) as it:
            answer = await it.get(at.authority)
            await settled(lambda: "URX,UF" in it.access_log)

        assert status(answer) == 503
        assert body(answer).startswith(
            b"upstream connect error or disconnect/reset before headers. "
            b"retried and the latest reset reason: remote connection failure"
        )

    run(scenario())


def test_a_connect_that_fails_is_tried_on_another_endpoint_even_for_post(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(pods=2)
        async with origin(at.pods["app-1"], answering()) as seen, at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            for _ in range(20):
                writer.write(b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\nabc")
                assert status(await reader.readuntil(b"\r\n\r\n")) == 200
                assert await reader.readexactly(5) == b"hello"
            writer.close()

        assert len(seen.heads) == 20

    run(scenario())


def test_a_slow_application_is_answered_for_after_the_request_timeout(tmp_path: Path) -> None:
    async def hanging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def scenario() -> None:
        at = Setting()
        rules = "{backendRefs: [{name: app, port: 9080}], timeouts: {request: 100ms}}"
        async with origin(at.pod, hanging) as seen, at.mesh(tmp_path, route(rules)) as it:
            answer = await it.get(at.authority)
            await settled(lambda: seen.closed == 1)

        assert status(answer) == 504
        assert body(answer) == b"upstream request timeout"
        assert "504 UT response_timeout" in it.access_log

    run(scenario())


def test_when_the_client_goes_away_mid_response_the_upstream_is_let_go(tmp_path: Path) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"5\r\nhello\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, endless) as seen, at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            await reader.readuntil(b"hello")
            writer.transport.abort()
            await settled(lambda: seen.closed == 1 and it.path.exchanges == 0)
            await settled(lambda: " DC downstream_remote_disconnect" in it.access_log)
            assert it.clusters[next(iter(it.holder.current.clusters))].endpoints[0].active == 0

    run(scenario())


@pytest.mark.parametrize("sent", [0, 1, 4, 9])
def test_an_application_that_dies_mid_body_is_never_taken_for_finished(tmp_path: Path, sent: int) -> None:
    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + b"0123456789"[:sent])
        await writer.drain()
        writer.transport.abort()

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, dying), at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            is_whole = await _is_answered_whole(reader)
            assert not is_whole
            writer.close()
            await settled(lambda: it.path.exchanges == 0)

    run(scenario())


async def _is_answered_whole(reader: asyncio.StreamReader) -> bool:
    """Whether a 200 with its 10 bytes came, and came to an orderly end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(10)
    except (asyncio.IncompleteReadError, TunnelReset):
        return False
    return status(head) == 200


def test_an_application_that_dies_before_its_head_is_answered_503(tmp_path: Path) -> None:
    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, dying) as seen, at.mesh(tmp_path) as it:
            answer = await it.get(at.authority)
            await settled(lambda: "503 UC" in it.access_log)

        assert status(answer) == 503
        assert body(answer).endswith(b"reset reason: connection termination")
        assert len(seen.heads) == 1

    run(scenario())


def test_a_response_that_breaks_the_rules_is_answered_502_and_not_passed_on(tmp_path: Path) -> None:
    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc")
        await reader.read()

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, lying) as seen, at.mesh(tmp_path) as it:
            answer = await it.get(at.authority)
            await settled(lambda: "502 UPE" in it.access_log and seen.closed == 1)

        assert status(answer) == 502
        assert body(answer).endswith(b"reset reason: protocol error")

    run(scenario())


def test_a_kept_connection_that_the_application_closed_is_replaced_unnoticed(tmp_path: Path) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await reader.readuntil(b"\r\n\r\n")  # takes the second request, and dies without a word

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, once) as seen, at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            for _ in range(3):
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                assert status(await reader.readuntil(b"\r\n\r\n")) == 200
                await reader.readexactly(5)
            writer.close()

        assert seen.connections == 3

    run(scenario())


def test_connections_are_kept_on_both_sides(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            for _ in range(10):
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(5)
            writer.close()
            assert it.server.connection_count == 1

        assert seen.connections == 1
        assert len(seen.heads) == 10

    run(scenario())


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, echoing), at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: app\r\n\r\n" % number for number in range(10)))
            for number in range(10):
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(2) == b"/%d" % number
            writer.close()

    run(scenario())


def test_a_change_of_configuration_counts_for_the_next_request_on_an_open_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        header = "{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: v, value: '%d'}]}}],"
        header += " backendRefs: [{name: app, port: 9080}]}"
        async with origin(at.pod, answering()), at.mesh(tmp_path, route(header % 1)) as it:
            reader, writer = await it.tunnel(at.authority)
            for version in (1, 2, 3):
                it.apply(at.manifests(route(header % version)))
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                assert b"v: %d\r\n" % version in await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(5)
            writer.close()

    run(scenario())


def test_headers_are_edited_by_rule_and_by_backend(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        rules = """{filters: [{type: RequestHeaderModifier, requestHeaderModifier:
            {set: [{name: A, value: rule}], add: [{name: b, value: more}], remove: [C]}}],
            backendRefs: [{name: app, port: 9080, filters: [{type: RequestHeaderModifier, requestHeaderModifier:
            {set: [{name: a, value: backend}, {name: Host, value: other}]}}]}]}"""
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, route(rules)) as it:
            await it.get(at.authority, headers="a: client\r\nb: one\r\nc: gone\r\n")

        head = seen.heads[0]
        assert b"\r\nhost: other\r\n" in head
        assert head.count(b"\r\na: backend\r\n") == 1
        assert b"\r\nb: one\r\n" in head
        assert b"\r\nb: more\r\n" in head
        assert b"\r\nc:" not in head

    run(scenario())


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_bodies_pass_whole_in_both_directions(tmp_path: Path, framing: str, engine: Engine) -> None:
    size = 8 << 20

    async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            if framing == "chunked":
                line = await reader.readuntil(b"\r\n")
                data = await reader.readexactly(int(line, 16))
                await reader.readexactly(2)
            else:
                data = await reader.read(1 << 16)
            left -= len(data)
            writer.write(data)
            await writer.drain()
        await reader.read()

    async def scenario() -> None:
        at = Setting(http2_engine=engine.value)
        pattern = bytes(range(251)) * 261  # 65,511 bytes, so that a lost or repeated chunk shows
        content = (pattern * (size // len(pattern) + 1))[:size]
        async with origin(at.pod, echoing), at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            header = b"Content-Length: %d" % size if framing == "length" else b"Transfer-Encoding: chunked"
            writer.write(b"POST / HTTP/1.1\r\nHost: app\r\n%b\r\n\r\n" % header)

            async def send() -> None:
                for start in range(0, size, 50_000):
                    piece = content[start : start + 50_000]
                    writer.write(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                if framing == "chunked":
                    writer.write(b"0\r\n\r\n")

            sending = asyncio.ensure_future(send())
            await reader.readuntil(b"\r\n\r\n")
            received = await reader.readexactly(size)
            await sending
            writer.close()
            assert received == content

    run(scenario(), 50)


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", 426),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 101 + b"\r\n", 431),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, tls/1.0\r\n\r\n", 403),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_what_can_not_be_understood_is_answered_and_never_forwarded(
    tmp_path: Path, request_bytes: bytes, expected: int
) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            writer.write(request_bytes)
            answer = await reader.read()
            writer.close()
            await settled(lambda: f" {expected} " in it.access_log)

        assert status(answer) == expected
        assert b"connection: close\r\n" in answer
        assert seen.connections == 0

    run(scenario())


def test_a_head_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting(head_seconds=0.1)
        async with at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
            answer = await reader.read()
            writer.close()

        assert status(answer) == 408

    run(scenario())


@pytest.mark.parametrize("where", ["port", "service", "pod"])
def test_an_authority_that_is_not_served_is_refused_with_the_reason(tmp_path: Path, where: str) -> None:
    async def scenario() -> None:
        at = Setting()
        authority = {"port": f"{at.vip}:81", "service": "10.1.2.3:9080", "pod": f"{at.pod}:9080"}[where]
        async with at.mesh(tmp_path) as it:
            with pytest.raises(TunnelRefused) as refusal:
                await it.tunnel(authority)

        assert refusal.value.status == 404

    run(scenario())


def test_the_hostname_of_a_service_is_served_as_its_address_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path) as it:
            answer = await it.get("app.default.svc.cluster.local:9080")

        assert status(answer) == 200

    run(scenario())


def test_a_tcp_port_passes_bytes_both_ways_and_keeps_half_close(tmp_path: Path) -> None:
    async def reversing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(data[::-1])
        writer.write_eof()
        await writer.drain()

    async def scenario() -> None:
        at = Setting()
        text = at.manifests().replace("name: http, port: 9080", "name: tcp, port: 9080")
        async with origin(at.pod, reversing), mesh(tmp_path, text, at.waypoint) as it:
            reader, writer = await it.tunnel(at.authority)
            writer.write(b"SSH-2.0")
            writer.write_eof()
            assert await reader.read() == b"0.2-HSS"
            writer.close()

    run(scenario())


def test_requests_are_refused_while_memory_is_scarce(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            it.path.max_exchanges = 0
            refused = await it.get(at.authority)
            it.path.max_exchanges = it.settings.of(HttpSettings).max_exchanges
            answer = await it.get(at.authority)

            assert (status(refused), body(refused)) == (503, b"envoy overloaded")
            assert status(answer) == 200
            assert len(seen.heads) == 1
            assert 'refused_total{reason="memory_limit_bytes"} 1' in it.metrics.render("")[0].decode()

    run(scenario())


def test_one_exchange_more_than_the_limit_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        go = asyncio.Event()

        async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        at = Setting(max_exchanges=2)
        async with origin(at.pod, waiting) as seen, at.mesh(tmp_path) as it:
            admitted = [asyncio.create_task(it.get(at.authority)) for _ in range(2)]
            await settled(lambda: len(seen.heads) == 2)
            refused = await it.get(at.authority)
            go.set()
            answers = await asyncio.gather(*admitted)

            assert (status(refused), body(refused)) == (503, b"envoy overloaded")
            assert [status(answer) for answer in answers] == [200, 200]
            assert len(seen.heads) == 2
            assert 'refused_total{reason="max_exchanges"} 1' in it.metrics.render("")[0].decode()
            await settled(lambda: " 503 UO overload " in it.access_log)

    run(scenario())
