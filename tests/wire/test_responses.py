"""Every response of the corpus through the codec, cut in every way, and once through the whole mesh."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelReset
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.kit.origin import Origin, origin
from tests.wire.application import body_of, without_added
from tests.wire.corpus import ResponseCase, cuts, responses
from tests.wire.verdicts import read_response

CASES = responses()
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
HARM = ["head", "body", "after"]
"""What of a refused response is seen at most, in order: nothing, a part, all."""


@EACH
def test_a_response_means_the_same_however_it_is_cut(case: ResponseCase) -> None:
    for pieces in cuts(case.send):
        verdict = read_response(pieces, method=case.method, upgrade=case.upgrade, closes=case.closes)

        assert verdict.is_refused == bool(case.refusal), pieces
        if verdict.is_refused:
            assert HARM.index(verdict.seen) <= HARM.index(case.refusal), pieces
        else:
            assert (verdict.seen, verdict.downstream) == ("after", case.downstream), pieces
            assert (verdict.is_kept_alive and not case.upgrade) == case.is_reusable, pieces


@dataclass
class Verdict:
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

    verdicts = run(scenario(), 50)

    for case in CASES:
        verdict = verdicts[case.name]
        if case.refusal:
            assert verdict.harm in HARM[: 1 + HARM.index(case.refusal)], (case.name, verdict)
            assert not verdict.is_reused, case.name
        else:
            assert verdict == Verdict(case.downstream, "after", case.is_reusable), case.name


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
    harm = "head" if b"HTTP/1.1 502 " in answer else "after" if answer else "body"
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
