"""HTTP/2 inside of tunnels, on either side or on both: whole meshes with scripted peers of the h2 library."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from l4.config.settings import Settings
from l4.http2 import frames
from l4.http2.engines import Engine
from tests.kit.aio import run
from tests.kit.front import Front, http2_front
from tests.kit.http2 import Http2Origin, Http2Peer, http2_client, http2_origin
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import Handler, Origin, answering, origin

BIG = hashlib.shake_128(b"big").digest(3 << 20)


@dataclass
class Setting:
    mesh: Mesh
    front: Front
    authority: str
    pods: list[str]
    stack: AsyncExitStack

    async def http1(self, handler: Handler, pod: int = 0) -> Origin:
        return await self.stack.enter_async_context(origin(self.pods[pod], handler))

    async def http2(self, pod: int = 0, **options: object) -> Http2Origin:
        return await self.stack.enter_async_context(http2_origin(self.pods[pod], **options))  # type: ignore[arg-type]

    async def client(self, settings: dict[SettingCodes, int] | None = None) -> Http2Peer:
        return await self.stack.enter_async_context(http2_client(self.front.at, settings=settings))


@asynccontextmanager
async def _setting(
    folder: Path, *, port: str = "h2c", pods: int = 1, more: str = "", settings: Settings | None = None
) -> AsyncIterator[Setting]:
    """`port` is the name of the service's port, by which it says what its endpoints speak."""
    waypoint, vip, ips = address(), address(), [address() for _ in range(pods)]
    text = manifests(waypoint=waypoint, vip=vip, pods={f"app-{n}": ip for n, ip in enumerate(ips)}, more=more)
    text = text.replace("{name: http, port: 9080}", f"{{name: {port}, port: 9080}}")
    async with mesh(folder, text, waypoint, settings) as it, AsyncExitStack() as stack:
        front = await stack.enter_async_context(http2_front(it, (vip, 9080)))
        yield Setting(it, front, f"{vip}:9080", ips, stack)


async def _get_http1(it: Setting, head: str = "GET / HTTP/1.1", headers: str = "", body: bytes = b"") -> bytes:
    reader, writer = await it.mesh.tunnel(it.authority)
    writer.write(f"{head}\r\nHost: app\r\nConnection: close\r\n{headers}\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("port", ["http", "h2c", "grpc"])
def test_a_body_arrives_whole_in_both_directions_whatever_the_endpoint_speaks(tmp_path: Path, port: str) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port=port) as it:
            if port == "http":
                await it.http1(answering(BIG))
            else:
                await it.http2(on_end=lambda peer, stream: peer.respond(stream, body=bytes(peer.streams[stream].data)))
            client = await it.client()

            answer = await client.answer(
                client.request(b"POST", body=BIG, headers=[(b"content-length", b"%d" % len(BIG))])
            )

            assert answer.status == 200
            assert answer.data == BIG

    run(scenario())


def test_an_http1_client_reaches_an_http2_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(
                on_end=lambda peer, stream: peer.respond(stream, body=bytes(peer.streams[stream].data))
            )

            answer = await _get_http1(
                it, "POST /x?y HTTP/1.1", "Transfer-Encoding: chunked\r\nX-A: b\r\n", b"5\r\nhello\r\n0\r\n\r\n"
            )

            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"5\r\nhello\r\n0\r\n\r\n" in answer
            [request] = seen.requests
            assert request.headers[b":path"] == b"/x?y"
            assert request.headers[b":authority"] == b"app"
            assert request.headers[b"x-a"] == b"b"
            assert b"host" not in request.headers
            assert b"connection" not in request.headers

    run(scenario())


def test_trailers_pass_in_both_directions(tmp_path: Path) -> None:
    async def scenario() -> None:
        def respond(peer: Http2Peer, stream: int) -> None:
            peer.h2.send_headers(stream, [(b":status", b"200")])
            peer.send(stream, b"body")
            peer.trailers(stream, [(b"x-checksum", b"1"), (b"grpc-status", b"0")])

        async with _setting(tmp_path) as it:
            seen = await it.http2(on_end=respond)
            client = await it.client()

            stream = client.request(b"POST", headers=[(b"te", b"trailers")])
            client.send(stream, b"body")
            client.trailers(stream, [(b"x-sum", b"2")])
            answer = await client.answer(stream)

            assert answer.trailers == {b"x-checksum": b"1", b"grpc-status": b"0"}
            assert seen.requests[0].trailers == {b"x-sum": b"2"}
            assert seen.requests[0].headers[b"te"] == b"trailers"

    run(scenario())


@pytest.mark.parametrize("port", ["http", "h2c"])
def test_an_answer_to_head_has_a_length_but_no_body(tmp_path: Path, port: str) -> None:
    async def scenario() -> None:
        async def head_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")

        async with _setting(tmp_path, port=port) as it:
            if port == "http":
                await it.http1(head_only)
            else:
                await it.http2(
                    on_end=lambda peer, stream: peer.respond(stream, headers=[(b"content-length", b"1000")], body=b"")
                )
            client = await it.client()

            answer = await client.answer(client.request(b"HEAD"))

            assert answer.headers[b"content-length"] == b"1000"
            assert (answer.data, answer.has_ended) == (b"", True)

    run(scenario())


@pytest.mark.parametrize("port", ["http", "h2c"])
def test_early_hints_come_before_the_response(tmp_path: Path, port: str) -> None:
    async def scenario() -> None:
        async def hint(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")

        def hint2(peer: Http2Peer, stream: int) -> None:
            peer.h2.send_headers(stream, [(b":status", b"103"), (b"link", b"</a>")])
            peer.respond(stream, 204, body=b"")

        async with _setting(tmp_path, port=port) as it:
            await (it.http1(hint) if port == "http" else it.http2(on_end=hint2))
            client = await it.client()

            answer = await client.answer(client.request())

            assert [(it[b":status"], it[b"link"]) for it in answer.informational] == [(b"103", b"</a>")]
            assert answer.status == 204

    run(scenario())


def test_a_client_that_does_not_read_stops_its_own_upstream_and_nobody_elses(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(on_end=lambda peer, stream: peer.respond(stream, body=BIG))
            client = await it.client({SettingCodes.INITIAL_WINDOW_SIZE: 20_000})
            client.h2.increment_flow_control_window(10 << 20)
            client.is_reading = False

            slow = client.request()
            await settled(lambda: len(client.streams[slow].data) == 20_000)
            client.is_reading = True
            quick = await client.answer(client.request())

            assert quick.data == BIG
            assert len(client.streams[slow].data) == 20_000
            [peer] = seen.peers
            assert len(peer._waiting[1][0]) > len(BIG) - (1 << 20)  # what was not sent stays where it is
            client.read_on()
            assert (await client.answer(slow)).data == BIG

    run(scenario())


def test_an_endpoint_that_does_not_read_stops_the_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        def stop(peer: Http2Peer, stream: int) -> None:
            peer.is_reading = False

        async with _setting(tmp_path) as it:
            seen = await it.http2(on_request=stop, on_end=Http2Peer.respond)
            client = await it.client()

            stream = client.request(b"POST", body=BIG)
            await settled(lambda: bool(seen.requests) and len(seen.requests[0].data) == 65_535)
            await settled(lambda: client.h2.local_flow_control_window(stream) == 0)
            left = len(client._waiting[stream][0])
            seen.peers[0].read_on()
            answer = await client.answer(stream)

            assert left > len(BIG) - (1 << 20)
            assert answer.status == 200
            assert seen.requests[0].data == BIG

    run(scenario())


def test_a_cut_response_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        def cut(peer: Http2Peer, stream: int) -> None:
            peer.h2.send_headers(stream, [(b":status", b"200")])
            peer.send(stream, b"half")
            peer.reset(stream, ErrorCodes.INTERNAL_ERROR)

        async with _setting(tmp_path) as it:
            await it.http2(on_end=cut)
            client = await it.client()

            answer = await client.answer(client.request())

            assert answer.reset is ErrorCodes.INTERNAL_ERROR
            assert not answer.has_ended
            await settled(lambda: " UR " in it.mesh.access_log)

    run(scenario())


def test_a_client_that_gives_up_ends_the_work_at_the_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(on_request=lambda peer, stream: None)
            client = await it.client()

            stream = client.request()
            await settled(lambda: bool(seen.requests))
            client.reset(stream)

            await settled(lambda: seen.requests[0].reset is ErrorCodes.CANCEL)
            await settled(lambda: " DC " in it.mesh.access_log)

    run(scenario())


def test_a_client_that_vanishes_ends_all_its_exchanges(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(on_request=lambda peer, stream: None)
            client = await it.client()

            for _ in range(5):
                client.request()
            await settled(lambda: len(seen.requests) == 5)
            client.transport.abort()

            await settled(lambda: all(request.reset is ErrorCodes.CANCEL for request in seen.requests))

    run(scenario())


def test_a_request_that_is_cancelled_in_the_same_read_never_reaches_the_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2()
            client = await it.client()

            for _ in range(10):
                head = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"app"), (b":path", b"/")]
                stream = client.h2.get_next_available_stream_id()
                client.h2.send_headers(stream, head, end_stream=True)
                client.h2.reset_stream(stream, ErrorCodes.CANCEL)
            client.flush()
            await client.answer(client.request(path=b"/last"))

            assert [request.headers[b":path"] for request in seen.requests] == [b"/last"]

    run(scenario())


def test_a_request_that_the_endpoint_refused_unseen_is_sent_again_even_if_it_is_a_post(tmp_path: Path) -> None:
    async def scenario() -> None:
        refused: list[int] = []

        def refuse_first(peer: Http2Peer, stream: int) -> None:
            if refused:
                peer.respond(stream)
            else:
                refused.append(stream)
                peer.reset(stream, ErrorCodes.REFUSED_STREAM)

        async with _setting(tmp_path) as it:
            seen = await it.http2(on_end=refuse_first)
            client = await it.client()

            answer = await client.answer(client.request(b"POST", body=b"once"))

            assert answer.status == 200
            assert [request.data for request in seen.requests] == [b"once", b"once"]
            assert seen.requests[1].headers[b"x-envoy-attempt-count"] == b"2"

    run(scenario())


def test_what_a_goaway_leaves_out_goes_over_another_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            gone: list[int] = []

            def leave(peer: Http2Peer, stream: int) -> None:
                if gone:
                    peer.respond(stream)
                    return
                gone.append(stream)
                peer.transport.write(frames.goaway_frame(0, 0, b""))  # type: ignore[arg-type]

            seen = await it.http2(on_end=leave)
            client = await it.client()

            answer = await client.answer(client.request(b"POST", body=b"once"))

            assert answer.status == 200
            assert len(seen.peers) == 2

    run(scenario())


def test_an_endpoint_that_resets_before_it_answers_costs_a_503_and_no_second_post(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(on_end=lambda peer, stream: peer.reset(stream, ErrorCodes.INTERNAL_ERROR))
            client = await it.client()

            answer = await client.answer(client.request(b"POST", body=b"x"))

            assert answer.status == 503
            assert bytes(answer.data) == (
                b"upstream connect error or disconnect/reset before headers. reset reason: remote reset"
            )
            assert len(seen.requests) == 1

    run(scenario())


def test_an_early_response_is_delivered_and_the_rest_of_the_request_is_not_wanted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(on_request=lambda peer, stream: peer.respond(stream, 413, body=b"too large"))
            client = await it.client()

            stream = client.request(b"POST")
            client.send(stream, b"x" * 10_000)
            answer = await client.answer(stream)
            await settled(lambda: client.streams[stream].reset is not None and seen.requests[0].reset is not None)

            assert (answer.status, answer.data, answer.has_ended) == (413, b"too large", True)
            assert answer.reset is ErrorCodes.NO_ERROR

    run(scenario())


def test_an_endpoint_takes_no_more_streams_than_it_allows(tmp_path: Path) -> None:
    async def scenario() -> None:
        waiting: list[tuple[Http2Peer, int]] = []
        async with _setting(tmp_path) as it:
            seen = await it.http2(
                on_end=lambda peer, stream: waiting.append((peer, stream)),
                settings={SettingCodes.MAX_CONCURRENT_STREAMS: 10},
            )
            client = await it.client()

            first = client.request()
            await settled(lambda: len(waiting) == 1)
            streams = [first, *(client.request() for _ in range(24))]
            await settled(lambda: len(waiting) == 25)
            for peer, stream in waiting:
                peer.respond(stream)
            answers = [await client.answer(stream) for stream in streams]

            assert [answer.status for answer in answers] == [200] * 25
            assert sorted(len(peer.streams) for peer in seen.peers) == [5, 10, 10]

    run(scenario())


def test_a_malformed_request_costs_its_stream_and_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(on_request=lambda peer, stream: None)
            client = await it.client()
            innocent = client.request()
            await settled(lambda: len(seen.requests) == 1)

            client.h2.config.validate_outbound_headers = False
            bad = client.request(headers=[(b"Upper-Case", b"x")])
            refused = await client.answer(bad)
            seen.peers[0].respond(1)
            answer = await client.answer(innocent)

            assert refused.reset is ErrorCodes.PROTOCOL_ERROR
            assert answer.status == 200
            assert len(seen.requests) == 1
            assert 'pywaypoint_refused_total{reason="malformed_http"} 1' in it.mesh.metrics.render("")[0].decode()

    run(scenario())


@pytest.mark.parametrize(
    ("headers", "status"),
    [([(b"host", b"other")], 0), ([(b"expect", b"magic")], 417)],
)
def test_what_could_mean_two_things_is_refused(tmp_path: Path, headers: list[tuple[bytes, bytes]], status: int) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2()
            client = await it.client()

            answer = await client.answer(client.request(headers=headers))

            assert answer.status == status
            assert answer.is_over
            assert seen.requests == []

    run(scenario())


def test_connect_inside_of_a_tunnel_leads_nowhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2()
            client = await it.client()

            answer = await client.answer(client.connect([(b":authority", b"10.0.0.1:80")]))

            assert answer.status == 404
            assert seen.requests == []

    run(scenario())


def test_cookies_that_came_apart_are_one_again_for_an_http1_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port="http") as it:
            seen = await it.http1(answering())
            client = await it.client()

            await client.answer(client.request(headers=[(b"cookie", b"a=1"), (b"cookie", b"b=2")]))

            assert b"\r\ncookie: a=1; b=2\r\n" in seen.heads[0]

    run(scenario())


def test_a_thousand_streams_at_once_share_one_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        waiting: list[tuple[Http2Peer, int]] = []
        settings = with_settings(inner_http2_streams=1000)
        async with _setting(tmp_path, settings=settings) as it:
            await it.http2(
                on_end=lambda peer, stream: waiting.append((peer, stream)),
                settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2000},
            )
            client = await it.client()

            streams = [client.request() for _ in range(1000)]
            await settled(lambda: len(waiting) == 1000, 20)
            assert it.mesh.path.exchanges == 1000
            for peer, stream in waiting:
                peer.respond(stream)
            answers = [await client.answer(stream) for stream in streams]

            assert all(answer.status == 200 for answer in answers)

    run(scenario())


def test_draining_lets_streams_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2(on_request=lambda peer, stream: None)
            client = await it.client()
            stream = client.request()
            await settled(lambda: len(seen.requests) == 1)

            it.front.drain()
            await settled(lambda: len(client.goaways) == 2)
            seen.peers[0].respond(1)

            assert (await client.answer(stream)).status == 200
            assert client.goaways == [2**31 - 1, 1]
            await settled(lambda: client.is_lost)

    run(scenario())


@pytest.mark.parametrize("engine", list(Engine))
def test_an_endpoint_that_takes_no_extended_connect_is_sent_none(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, settings=with_settings(http2_engine=engine.value)) as it:
            application = await it.http2()
            key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

            reader, writer = await it.mesh.tunnel(it.authority)
            head = f"GET /ws HTTP/1.1\r\nHost: app\r\nConnection: upgrade\r\nUpgrade: websocket\r\n{key}\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.close()

            assert answer.startswith(b"HTTP/1.1 502 ")
            assert application.requests == []

    run(scenario())


@pytest.mark.parametrize("engine", list(Engine))
def test_a_head_that_never_becomes_whole_ends_its_connection(tmp_path: Path, engine: Engine) -> None:
    async def scenario() -> None:
        settings = with_settings(http2_engine=engine.value, head_seconds=0.1)
        async with _setting(tmp_path, settings=settings) as it:
            await it.http2()
            client, other = await it.client(), await it.client()

            client.transport.write(frames.frame(frames.HEADERS, 0, 1, b"\x82"))
            await settled(lambda: client.is_lost)

            assert (await other.answer(other.request())).status == 200
            text = it.mesh.metrics.render("")[0].decode()
            assert 'pywaypoint_refused_total{reason="head_seconds"} 1' in text

    run(scenario())
