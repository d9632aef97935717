"""Queries to a running waypoint over a real administration port, by the client of the command line."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from l4.admin import OperatorAddresses, OperatorPorts
from l4.asking.admin import CannotAsk
from l4.asking.reach import Target
from l4.config.settings import Settings
from tests.kit.aio import run
from waypoint.ask.explain import explain
from waypoint.ask.explanation import Explanation
from waypoint.ask.load import load
from waypoint.ask.page import EXPLAIN_PATH, EXPLAIN_SHOWS, explain_page
from waypoint.ask.question import InvalidQuestion, Question
from waypoint.ask.remote import ask_target
from waypoint.metrics import waypoint_metrics

GOLDEN = Path(__file__).parents[2] / "golden"
ANYWHERE = OperatorAddresses(("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.1", 0))
LOADED = load([GOLDEN / "mesh.yaml", GOLDEN / "matches.in.yaml"], ("default", "waypoint"), Settings())
(SNAPSHOT,) = LOADED.snapshots.values()


@asynccontextmanager
async def administration() -> AsyncIterator[tuple[str, int]]:
    async def explained(question: Question) -> Explanation:
        return explain(SNAPSHOT, question, Settings(), now=0)

    async def no_dump() -> object:
        return {}

    page = explain_page(explained)
    ports = OperatorPorts(waypoint_metrics("1"), (), no_dump, lambda: None, {EXPLAIN_PATH: (EXPLAIN_SHOWS, page)})
    await ports.start(ANYWHERE)
    try:
        yield ports.addresses.admin
    finally:
        await ports.close()


async def asked_of(address: tuple[str, int], question: Question) -> Explanation:
    return await ask_target(Target("waypoint", admin=address), question)


@pytest.mark.parametrize("target", ["/a?c=d&e", "/a b"])
def test_a_running_waypoint_explains_as_its_files_would(target: str) -> None:
    asked = Question.parse("default/client", "reviews:9080", "PUT", target, ("X-A: b & c", "x-a: é"))

    async def scenario() -> None:
        async with administration() as address:
            answer = await asked_of(address, asked)

            assert answer == explain(SNAPSHOT, asked, Settings(), now=0)

    run(scenario())


def test_a_wrong_question_comes_back_as_its_sentence() -> None:
    async def scenario() -> None:
        async with administration() as address:
            with pytest.raises(InvalidQuestion, match="has the ports"):
                await asked_of(address, Question("default", "client", "reviews"))
            async with ClientSession() as client, client.get(f"http://127.0.0.1:{address[1]}{EXPLAIN_PATH}") as answer:
                assert answer.status == 400
                assert "the service is missing" in await answer.text()

    run(scenario())


def test_a_waypoint_that_is_not_there_is_told_in_a_sentence() -> None:
    with pytest.raises(CannotAsk, match=r"the administration port of 127\.0\.0\.1:1 cannot be reached"):
        run(asked_of(("127.0.0.1", 1), Question("default", "client", "reviews")))


def test_another_program_is_told_in_a_sentence() -> None:
    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            with pytest.raises(CannotAsk, match="sent an unexpected answer"):
                await asked_of(server.sockets[0].getsockname(), Question("a", "b", "c"))

    run(scenario())
