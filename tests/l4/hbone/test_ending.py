"""How a connection ends by its peer's silence; the other ends are tried with the driver and with lifetimes."""

import asyncio

import pytest

from l4.http2 import frames
from l4.http2.engines import Engine
from tests.l4.hbone.test_driver import Served, serve, turn

BOTH = pytest.mark.parametrize("engine", list(Engine))


def pings(served: Served) -> list[bytes]:
    return [payload for kind, flags, _, payload in served.wire.take() if kind == frames.PING and not flags]


def answer(served: Served, payload: bytes) -> None:
    served.give(frames.frame(frames.PING, 1, 0, payload))


@BOTH
def test_a_peer_that_answers_is_asked_again_after_a_pause(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        it.wire.take()
        asked = []
        for _ in range(3):
            await asyncio.sleep(10.1)
            asked.append(pings(it))
            answer(it, asked[-1][0])

        assert [len(each) for each in asked] == [1, 1, 1]
        assert not it.wire.is_aborted

    serve(engine, scenario, ping_interval_seconds=10, ping_timeout_seconds=5)


@BOTH
def test_a_peer_that_answers_no_ping_is_cut_although_it_sends_other_frames(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        await asyncio.sleep(10.1)
        for _ in range(4):
            it.give(frames.window_update_frame(0, 1))
            answer(it, b"whatever")
            await asyncio.sleep(1)
        was_there = not it.wire.is_aborted
        await asyncio.sleep(1)

        assert was_there
        assert it.wire.is_aborted

    serve(engine, scenario, ping_interval_seconds=10, ping_timeout_seconds=5)


@BOTH
def test_an_answer_that_nobody_asked_for_ends_nothing(engine: Engine) -> None:
    async def scenario(it: Served) -> None:
        it.wire.take()
        answer(it, b"goaway 1")
        await turn()
        it.open(1)
        await turn()

        assert frames.GOAWAY not in [kind for kind, *_ in it.wire.take()]
        assert [stream for stream, _ in it.requests] == [1]
        assert not it.wire.is_closed

    serve(engine, scenario)
