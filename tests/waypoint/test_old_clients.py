"""Clients of HTTP/1.0, which a setting lets in; and heads of more fields than usual."""

import asyncio
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.mesh import settled, with_settings
from tests.kit.origin import Handler, answering, origin
from tests.waypoint.test_exchange import Setting
from tests.waypoint.test_http1 import responding
from tests.waypoint.test_http2 import _setting

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\n yo\r\n0\r\nX-Sum: 1\r\n\r\n"


async def _answers(
    folder: Path, handler: Handler, request: bytes, *, accepts: bool = True
) -> tuple[bytes, list[bytes], str]:
    """All that the client gets until its connection ends, the heads that the origin saw, and the access log."""
    at = Setting(accept_http_10=accepts)
    async with origin(at.pod, handler) as seen, at.mesh(folder) as it:
        reader, writer = await it.tunnel(at.authority)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await settled(lambda: bool(it.access_log))
        return answer, seen.heads, it.access_log


def test_a_request_of_http10_is_told_to_upgrade_by_default(tmp_path: Path) -> None:
    answer, heads, _ = run(_answers(tmp_path, answering(), b"GET / HTTP/1.0\r\nHost: app\r\n\r\n", accepts=False))

    assert answer.startswith(b"HTTP/1.1 426 ")
    assert heads == []


def test_a_client_of_http10_gets_its_answer_in_its_own_version(tmp_path: Path) -> None:
    request = b"GET /a HTTP/1.0\r\nHost: app\r\nTE: trailers\r\nConnection: close\r\n\r\n"
    answer, heads, log = run(_answers(tmp_path, answering(), request))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\nconnection: close\r\n")
    assert b"content-length: 5" in head
    assert body == b"hello"
    assert heads[0].startswith(b"GET /a HTTP/1.1\r\nhost: app\r\n")
    assert b"te: trailers" not in heads[0]
    assert '"GET /a HTTP/1.0" 200' in log


def test_an_answer_without_a_length_ends_with_the_connection(tmp_path: Path) -> None:
    request = b"GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n"
    answer, _, _ = run(_answers(tmp_path, responding(CHUNKED), request))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert b"content-length" not in head
    assert body == b"hello yo"


def test_a_connection_is_kept_where_the_client_asks_for_it_and_the_end_is_known(tmp_path: Path) -> None:
    kept = b"GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n"
    answer, heads, _ = run(_answers(tmp_path, answering(), kept + kept + b"GET / HTTP/1.0\r\nHost: app\r\n\r\n"))

    assert answer.count(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n") == 2
    assert answer.count(b"HTTP/1.0 200 OK\r\nconnection: close\r\n") == 1
    assert len(heads) == 3


def test_versions_may_follow_each_other_on_one_connection(tmp_path: Path) -> None:
    old = b"GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n"
    new = b"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    answer, heads, _ = run(_answers(tmp_path, answering(), old + new))

    assert answer.count(b"HTTP/1.0 200 OK\r\n") == 1
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert len(heads) == 2


def test_what_http10_does_not_know_is_ignored_or_refused(tmp_path: Path) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    upgrading = (
        b"GET / HTTP/1.0\r\nHost: app\r\nExpect: 100-continue\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    answer, heads, _ = run(_answers(tmp_path / "a", responding(early), upgrading))

    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")
    assert b"upgrade" not in heads[0]
    assert b"expect" not in heads[0]

    for request, status in (
        (b"POST / HTTP/1.0\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\nHost: app\r\n\r\n", 426),
    ):
        answer, heads, _ = run(_answers(tmp_path / str(len(request)), answering(), request))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert heads == []


@pytest.mark.parametrize("client", ["http1", "http2"])
@pytest.mark.parametrize(("most", "passes"), [(100, False), (300, True)])
def test_the_number_of_headers_is_a_setting(tmp_path: Path, client: str, most: int, passes: bool) -> None:
    fields = [(b"x-%d" % number, b"1") for number in range(200)]

    async def scenario() -> None:
        async with _setting(tmp_path, settings=with_settings(head_fields=most)) as it:
            seen = await it.http2(on_end=lambda peer, stream: peer.respond(stream, headers=fields))
            if client == "http1":
                lines = "".join(f"x-{number}: 1\r\n" for number in range(200))
                reader, writer = await it.mesh.tunnel(it.authority)
                writer.write(f"GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{lines}\r\n".encode())
                answer = await reader.read()
                writer.close()
                status, count = int(answer.split()[1]), answer.count(b"\r\nx-")
            else:
                peer = await it.client()
                stream = await peer.answer(peer.request(headers=fields))
                status, count = stream.status, sum(name.startswith(b"x-") for name in stream.headers)

            assert status == (200 if passes else 431)
            assert (count >= 200) == passes
            assert len(seen.requests) == passes

    run(scenario())
