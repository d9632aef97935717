"""gRPC-Web through the whole mesh: a browser's requests, and a real gRPC service behind them."""

import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.grpc_echo import SERVICE, Seen, echo_server
from tests.kit.mesh import Mesh, address, manifests, mesh

MESSAGE = b"\x00\x00\x00\x00\x05hello"
TEXT = "application/grpc-web-text"
BINARY = "application/grpc-web+proto"


@asynccontextmanager
async def _setting(folder: Path, port: str = "grpc-web") -> AsyncIterator[tuple[Mesh, str, Seen]]:
    waypoint, vip, pod = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
    text = text.replace("{name: http, port: 9080}", f"{{name: {port}, port: 9080}}")
    with echo_server(pod) as seen:
        async with mesh(folder, text, waypoint) as it:
            yield it, f"{vip}:9080", seen


async def _post(
    it: Mesh, authority: str, method: str, body: bytes, content_type: str, accept: str = "*/*"
) -> tuple[bytes, bytes]:
    """Head, and body without its chunks."""
    reader, writer = await it.tunnel(authority)
    writer.write(
        f"POST /{SERVICE}/{method} HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Type: {content_type}\r\n"
        f"Accept: {accept}\r\nX-Grpc-Web: 1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    if b"transfer-encoding: chunked" not in head:
        return head, rest
    whole = b""
    while (size := int(rest.partition(b"\r\n")[0], 16)) > 0:
        rest = rest.partition(b"\r\n")[2]
        whole, rest = whole + rest[:size], rest[size + 2 :]
    return head, whole


def _frames(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        length = int.from_bytes(body[1:5])
        found.append((body[0], body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def test_a_call_in_binary_gets_its_trailers_as_the_last_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as (it, authority, seen):
            head, body = await _post(it, authority, "Unary", MESSAGE, BINARY)

            assert head.startswith(b"HTTP/1.1 200 OK")
            assert b"content-type: application/grpc-web+proto" in head
            message, trailers = _frames(body)
            assert message == (0, b"hello")
            assert trailers[0] == 0x80
            assert b"grpc-status: 0\r\n" in trailers[1]
            assert b"x-trailer: at the end\r\n" in trailers[1]
            assert "x-grpc-web" in seen.metadata[0]

    run(scenario())


@pytest.mark.parametrize("cut", [False, True])
def test_a_call_in_text_is_base64_both_ways(tmp_path: Path, cut: bool) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as (it, authority, _):
            encoded = b64encode(MESSAGE[:4]) + b64encode(MESSAGE[4:]) if cut else b64encode(MESSAGE)

            head, body = await _post(it, authority, "Unary", encoded, TEXT, accept=TEXT)

            assert b"content-type: application/grpc-web-text" in head
            decoded = b"".join(b64decode(it) for it in re.findall(rb"[^=]+={0,2}", body))
            assert _frames(decoded)[0] == (0, b"hello")

    run(scenario())


def test_what_is_no_base64_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as (it, authority, _):
            head, _ = await _post(it, authority, "Unary", b"!!!!", TEXT)

            assert b"grpc-status: 13" in head

    run(scenario())


def test_an_error_arrives_in_the_form_that_the_client_understands(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as (it, authority, _):
            head, body = await _post(it, authority, "Fail", MESSAGE, BINARY)

            assert b"content-type: application/grpc-web+proto" in head
            assert b"grpc-status: 5" in head + body

    run(scenario())


def test_a_port_that_does_not_say_so_is_not_translated(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port="grpc") as (it, authority, _):
            head, _ = await _post(it, authority, "Unary", MESSAGE, BINARY)

            assert b"200 OK" not in head

    run(scenario())
