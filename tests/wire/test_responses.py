"""Every response of the corpus through the codec, cut in every way, and once through the whole mesh."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from l4.config.settings import Settings
from l4.hbone.errors import TunnelReset
from policies.attributes import Headers, ResponseHead
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import Origin, origin
from tests.wire.application import body_of, without_added
from tests.wire.corpus import ResponseCase, cuts, responses
from waypoint.errors import UpstreamProtocolError
from waypoint.http import h1, h1_format
from waypoint.http.events import EMPTY, Body

CASES = responses()
SETTINGS = Settings()
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
HARM = ["head", "body", "after"]
"""What of a refused response is seen at most, in order: nothing, a part, all."""


class Client:
    """What would go to the client, chunked bodies in one chunk."""

    def __init__(self) -> None:
        self.downstream = b""
        self.is_kept_alive = False
        self.seen = "head"
        self._body = b""
        self._is_chunked = False

    def informational_head(self, head: ResponseHead) -> None:
        self.downstream += h1_format.format_response(head, EMPTY, closes=False)

    def response_head(self, head: ResponseHead, body: Body, is_kept_alive: bool) -> None:
        self.downstream += h1_format.format_response(head, body, closes=False)
        self.is_kept_alive = is_kept_alive
        self.seen = "body"
        self._is_chunked = body.length is None

    def response_body(self, data: bytes) -> None:
        self._body += data

    def response_end(self, trailers: Headers) -> None:
        if self._is_chunked:
            self._body = (h1_format.format_chunk(self._body) if self._body else b"") + h1_format.format_last_chunk([])
        self.downstream += self._body
        self.seen = "after"


def read(case: ResponseCase, pieces: list[bytes]) -> tuple[Client, bool]:
    """What comes of it, and whether it is refused."""
    it = Client()
    reader = h1.ResponseReader(it, SETTINGS)
    reader.expect(case.method, case.upgrade)
    try:
        for piece in pieces:
            reader.feed(piece)
    except UpstreamProtocolError:
        return it, True
    if case.closes:
        assert reader.feed_eof()
    return it, False


@EACH
def test_a_response_means_the_same_however_it_is_cut(case: ResponseCase) -> None:
    for pieces in cuts(case.send):
        client, is_refused = read(case, pieces)

        assert is_refused == bool(case.refusal), pieces
        if is_refused:
            assert HARM.index(client.seen) <= HARM.index(case.refusal), pieces
        else:
            assert (client.seen, client.downstream) == ("after", case.downstream), pieces
            assert (client.is_kept_alive and not case.upgrade) == case.is_reusable, pieces


@dataclass
class Verdict:
    """`harm` is `none` for a response that arrived whole."""

    downstream: bytes
    harm: str
    is_reused: bool


def test_a_waypoint_passes_on_what_the_corpus_says_and_never_reuses_a_doubtful_connection(tmp_path: Path) -> None:
    case_of: dict[bytes, ResponseCase] = {b"/%d" % number: case for number, case in enumerate(CASES)}

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            case = case_of.get(head.split(b" ")[1])
            writer.write(case.send if case else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            if case and case.closes:
                return

    async def scenario() -> dict[str, Verdict]:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        async with mesh(tmp_path, text, waypoint) as it, origin(pod, respond) as seen:
            return {case.name: await _received(case, path, it, seen, f"{vip}:9080") for path, case in case_of.items()}

    for name, verdict in run(scenario(), 50).items():
        case = next(case for case in CASES if case.name == name)
        if case.refusal:
            assert verdict.harm in ["head", "body", "none"][: 1 + HARM.index(case.refusal)], (name, verdict)
            assert not verdict.is_reused, name
        else:
            assert verdict == Verdict(case.downstream, "none", case.is_reusable), name


async def _received(case: ResponseCase, path: bytes, it: Mesh, seen: Origin, authority: str) -> Verdict:
    """What a client gets, and whether the next client's request goes over the same connection."""
    upgrade = b"Connection: upgrade\r\nUpgrade: %b\r\n" % case.upgrade if case.upgrade else b""
    reader, writer = await it.tunnel(authority)
    writer.write(b"%b %b HTTP/1.1\r\nHost: app\r\n%b\r\n" % (case.method, path, upgrade))
    writer.write_eof()
    try:
        answer = await reader.read()
    except TunnelReset:
        answer = b""
    writer.close()
    await settled(lambda: it.path.exchanges == 0)
    connections = seen.connections
    assert (await it.get(authority, "/next")).startswith(b"HTTP/1.1 200 OK"), case.name
    harm = "head" if b"HTTP/1.1 502 " in answer else "none" if answer else "body"
    return Verdict(await _normal(case, answer), harm, seen.connections == connections)


async def _normal(case: ResponseCase, answer: bytes) -> bytes:
    """The answer as the corpus writes it."""
    reader = asyncio.StreamReader(limit=1 << 20)
    reader.feed_data(answer)
    reader.feed_eof()
    message = b""
    while not reader.at_eof():
        head = await reader.readuntil(b"\r\n\r\n")
        message += without_added(head, case.downstream)
        if not re.match(rb"HTTP/1.1 (1..|204|304)", head) and case.method != b"HEAD":
            message += await body_of(head, reader)
    return message
