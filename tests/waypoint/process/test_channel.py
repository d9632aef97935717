"""Both ends of a channel, over a real Unix socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from l4.admin import NoAnswer
from tests.kit.aio import run
from waypoint.process.channel import Channel, connect


class Unsendable(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


async def answer(question: str, arguments: tuple[Any, ...]) -> object:
    match question:
        case "add":
            return sum(arguments)
        case "large":
            return b"x" * arguments[0]
        case "wait":
            await asyncio.sleep(60)
        case "fail":
            raise ValueError("so it is")
        case "fail oddly":
            raise Unsendable(1, 2)
        case "return oddly":
            return lambda: None
    return None


@asynccontextmanager
async def channels(notes: list[tuple[str, tuple[Any, ...]]]) -> AsyncIterator[tuple[Channel, Channel]]:
    """The end that asks, and the one that answers."""
    here, there = socket.socketpair()
    asking = await connect(here, "the worker", lambda *it: notes.append(it))
    answering = await connect(there, "the supervisor", lambda *it: None, answer)
    receiving = [asyncio.create_task(it.run()) for it in (asking, answering)]
    try:
        yield asking, answering
    finally:
        asking.close()
        answering.close()
        await asyncio.wait_for(asyncio.gather(*receiving), 5)


def test_questions_get_their_own_answers_in_any_order() -> None:
    async def scenario() -> None:
        async with channels([]) as (asking, _):
            slow = asyncio.create_task(asking.ask("wait"))
            assert await asking.ask("add", 1, 2) == 3
            assert len(await asking.ask("large", 1 << 20)) == 1 << 20
            slow.cancel()

    run(scenario())


@pytest.mark.parametrize(
    ("question", "raised", "words"),
    [
        ("fail", ValueError, "so it is"),
        ("fail oddly", RuntimeError, "Unsendable: 1 and 2"),
        ("return oddly", RuntimeError, "return oddly: "),
    ],
)
def test_an_error_is_raised_where_it_was_asked(question: str, raised: type[Exception], words: str) -> None:
    async def scenario() -> None:
        async with channels([]) as (asking, _):
            with pytest.raises(raised, match=words):
                await asking.ask(question)
            assert await asking.ask("add", 1, 1) == 2

    run(scenario())


def test_notes_arrive_in_order_until_the_other_end_is_gone() -> None:
    async def scenario() -> None:
        notes: list[tuple[str, tuple[Any, ...]]] = []
        async with channels(notes) as (asking, answering):
            assert answering.note("load", 1)
            assert answering.note("load", 2)
            await asking.ask("add", 0)  # what was told before has arrived
            assert notes == [("load", (1,)), ("load", (2,))]
            asking.close()
            assert not asking.note("level", "info")

    run(scenario())


def test_who_asks_is_told_when_the_other_end_has_ended() -> None:
    async def scenario() -> None:
        async with channels([]) as (asking, answering):
            waiting = asyncio.create_task(asking.ask("wait"))
            await asking.ask("add", 1)
            answering.close()
            with pytest.raises(NoAnswer, match="the worker has ended"):
                await waiting
            with pytest.raises(NoAnswer, match="the worker has ended"):
                await asking.ask("add", 1)

    run(scenario())


def test_notes_beyond_what_may_wait_are_dropped() -> None:
    async def scenario() -> None:
        here, there = socket.socketpair()
        channel = await connect(here, "the worker", lambda *it: None)
        with there:
            given = 0
            while channel.note("records", bytes(1 << 20)):
                given += 1
                assert given < 200
        channel.close()

    run(scenario())
