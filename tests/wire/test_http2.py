"""Every frame script of the corpus through both engines, cut in every way, and a client's through the whole mesh."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from l4.http2 import frames
from l4.http2.engines import Engine
from l4.http2.errors import ErrorCode
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled
from tests.wire.application import Application, application
from tests.wire.corpus import Http2Case, cuts, http2
from tests.wire.frame_script import Writer
from tests.wire.verdicts import FramesVerdict, read_frames

CASES = http2()
CALM = ErrorCode.ENHANCE_YOUR_CALM.name
NO_ERROR = ErrorCode.NO_ERROR.name
Outcome = tuple[str, dict[int, str], list[str]]
"""The code of GOAWAY, those of streams that were reset for an error, and the whole requests that went upstream."""
LONG = 10_000
"""Longer scripts are not fed byte by byte: nothing in them depends on it that shorter ones would not show."""


def test_the_corpus_has_scripts_of_every_kind() -> None:
    names = Counter(case.name for case in CASES)

    assert [name for name, count in names.items() if count > 1] == []
    assert {case.is_client for case in CASES} == {True, False}


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frames_mean_the_same_however_they_are_cut(case: Http2Case, engine: Engine) -> None:
    wire = list(Writer().write(case.script))

    for pieces in [wire, *cuts(b"".join(wire))]:
        if len(pieces) <= LONG:
            _check(
                case,
                engine,
                read_frames(engine, pieces, is_client=case.is_client, limits=case.limits, is_unread=case.is_unread),
            )


def _check(case: Http2Case, engine: Engine, verdict: FramesVerdict) -> None:
    if engine is Engine.H2 and case.by_the_library:
        assert verdict.goaway == case.by_the_library
        assert verdict.delivered.items() <= case.delivered.items()
    elif case.goaway == CALM:  # how far the peer came before that is its own matter
        assert (verdict.goaway, verdict.limit) == (case.goaway, case.limit)
    else:
        assert verdict == FramesVerdict(case.delivered, case.resets, case.goaway, case.limit)


def test_a_waypoint_forwards_what_is_whole_and_resets_what_is_not(tmp_path: Path) -> None:
    """The frames of a client that are judged by the default limits, on connections inside of tunnels."""
    cases = [case for case in CASES if case.is_client and not case.limits]

    async def scenario() -> dict[str, Outcome]:
        waypoint, vip, pod = address(), address(), address()
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod})
        async with mesh(tmp_path, text, waypoint) as it, application(pod) as app:
            return {case.name: await _sent(case, it, app, f"{vip}:9080") for case in cases}

    assert run(scenario(), 50) == {case.name: _outcome(case) for case in cases}


def _outcome(case: Http2Case) -> Outcome:
    if case.goaway == CALM:  # how far it came before that is its own matter
        return CALM, {}, []
    resets = {stream_id: code for stream_id, code in case.resets.items() if code != NO_ERROR}
    return case.goaway, resets, sorted(case.forwarded.values())


async def _sent(case: Http2Case, it: Mesh, app: Application, authority: str) -> Outcome:
    reader, writer = await it.tunnel(authority)
    writer.write(frames.PREFACE + frames.settings_frame({}) + b"".join(Writer().write(case.script)))
    goaway, resets = await _answered(case, reader)
    writer.close()
    await settled(lambda: it.path.exchanges == 0)
    requests = sorted(map(_line, app.take()))
    return (CALM, {}, []) if goaway == CALM else (goaway, resets, requests)


async def _answered(case: Http2Case, reader: asyncio.StreamReader) -> tuple[str, dict[int, str]]:
    """The code of GOAWAY, and those of the streams that were reset, when all that the case expects has come."""
    resets: dict[int, str] = {}
    over: set[int] = set()
    answered = {*case.forwarded, *(stream_id for stream_id, code in case.resets.items() if code == NO_ERROR)}
    while case.goaway or not over >= {*answered, *case.resets}:
        high, low, kind, flags, stream_id = frames.HEAD.unpack(await reader.readexactly(9))
        payload = await reader.readexactly(high << 8 | low)
        if kind == frames.GOAWAY:
            return ErrorCode(int.from_bytes(payload[4:8])).name, resets
        if kind == frames.RST_STREAM:
            resets[stream_id] = ErrorCode(int.from_bytes(payload)).name
            over.add(stream_id)
        elif kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM and stream_id in answered:
            over.add(stream_id)
    return "", resets


def _line(request: bytes) -> str:
    """A whole HTTP/1.1 request as the corpus writes it."""
    head, _, body = request.partition(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head:
        body = b"" if body.startswith(b"0") else body.split(b"\r\n")[1]
    method, target, _ = head.split(b" ", 2)
    return b" ".join(filter(None, [method, target, body])).decode()
