"""Real Envoy and ours, with one format string of the access log and the same requests: their lines are the same."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import origin
from tests.waypoint.test_exchange import Setting

pytestmark = pytest.mark.envoy

OPERATORS = (
    *("RESPONSE_CODE", "RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG", "PROTOCOL", "UPSTREAM_PROTOCOL", "ACCESS_LOG_TYPE"),
    *("REQ_WITHOUT_QUERY(:PATH)", "REQ_WITHOUT_QUERY(X-NONE?X-URL)", "REQ_WITHOUT_QUERY(X-NONE)"),
    *("PATH", "PATH(NQ)", "PATH(WQ:ORIG_OR_PATH)", "QUERY_PARAMS", "QUERY_PARAMS(DECODED)"),
    *("QUERY_PARAM(x)", "QUERY_PARAM(X)", "QUERY_PARAM(y)", "QUERY_PARAM(d d)", "QUERY_PARAM(none)"),
    *("UPSTREAM_REQUEST_ATTEMPT_COUNT", "BYTES_RECEIVED", "RESPONSE_TRAILERS_BYTES"),
    *("TRAILER(X-T)", "TRAILER(X-NONE?X-T)", "TRAILER(X-T):2"),
    *("GRPC_STATUS", "GRPC_STATUS(SNAKE_STRING)", "GRPC_STATUS(NUMBER)", "GRPC_STATUS_NUMBER"),
    *("REQUEST_DURATION", "RESPONSE_DURATION", "RESPONSE_TX_DURATION", "COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)"),
    *("COMMON_DURATION(DS_RX_END:DS_RX_BEG:ms)", "COMMON_DURATION(US_RX_BEG:DS_TX_END:ns)"),
    *("START_TIME", "START_TIME_LOCAL", "START_TIME_LOCAL(%Y %z)", "EMIT_TIME", "EMIT_TIME(%s.%3f)", "EMIT_TIME_LOCAL"),
    *("HOSTNAME", "UNIQUE_ID", "SPAN_ID", "TRACE_ID", "UPSTREAM_HOST"),
)
# An empty value is - here, as in the default format, so that columns stay columns; Envoy writes nothing.
VARYING = ("DURATION", "_TIME", "UNIQUE_ID")
GRPC = (
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\nx-t: trail\r\ngrpc-status: 3\r\n\r\n"
)
GETS = (
    ("/a?x=1&y=%20z+b&x=2&c&d%20d=e%3Df&e=%41%7E%7F%C3%A9%2B%26%21%2f%3f%23%4", "X-Url: http://u/p?secret=1\r\n"),
    ("/b", "X-Url: /p\r\n"),
    ("/grpc?q", "Content-Type: application/grpc\r\nTE: trailers\r\n"),
)
Get = Callable[[str, str], Awaitable[object]]


async def application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(
        GRPC if b" /grpc" in head else b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
    )


def shape(operator: str, value: str) -> str:
    """What varies from run to run is compared by its form, and ours reaches its endpoint through a tunnel."""
    value = value.removeprefix("envoy://connect_originate/")
    return re.sub("[0-9a-f]+", "0", value) if any(it in operator for it in VARYING) else value


def written(log: Path) -> list[list[str]]:
    """The lines so far. Those of the ztunnel, which shares the file, have other fields."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [its for line in lines if len(its := line.split("\t")) == len(OPERATORS)]


async def lines(log: Path, get: Get, place: str) -> list[dict[str, str]]:
    """Those of all requests, of which the last one finds no application."""
    async with origin(place, application):
        for path, headers in GETS:
            await get(path, headers)
    await get("/away", "")
    await settled(lambda: len(written(log)) == len(GETS) + 1, seconds=15)
    return [{it: shape(it, value) for it, value in zip(OPERATORS, line, strict=True)} for line in written(log)]


def test_lines_of_the_access_log_are_envoys(tmp_path: Path) -> None:
    text = "\t".join(f"%{it}%" for it in OPERATORS) + "\n"

    async def scenario() -> None:
        at, entry, log = Setting(access_log_format=text), envoy.free_address(), tmp_path / "envoy.log"

        async def through_envoy(path: str, headers: str) -> bytes:
            reader, writer = await asyncio.open_connection(*entry)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{headers}\r\n".encode())
            answer = await reader.read()
            writer.close()
            return answer

        async with at.mesh(tmp_path) as it:
            ours = await lines(it.log, lambda path, headers: it.get(at.authority, path, headers), at.pod)
        with ExitStack() as stack:
            config = envoy.logging(listen=entry, to=(at.pod, 9080), access_log=log, text=text)
            await asyncio.to_thread(stack.enter_context, envoy.run(config, ready=entry))
            theirs = await lines(log, through_envoy, at.pod)

        for mine, its in zip(ours, theirs, strict=True):
            assert mine == its
        assert [it["UPSTREAM_REQUEST_ATTEMPT_COUNT"] for it in ours] == ["1", "1", "1", "3"]
        assert ours[0]["QUERY_PARAM(y)"] == " z+b"

    run(scenario())
