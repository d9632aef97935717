"""How the front of HTTP/1.1 ends its connections: bytes in, bytes out, by a virtual clock."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from l4.config.settings import Settings
from policies.attributes import Headers, RequestHead, ResponseHead
from tests.kit.virtual_time import run_virtually
from tests.kit.wire import Wire
from waypoint.errors import ExchangeError
from waypoint.http.events import Body, RequestSink
from waypoint.http.server import Http1Server

GET = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n"


class Bytes(Wire):
    """Keeps what is written as it is."""

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    @property
    def heads(self) -> list[bytes]:
        return self.written.split(b"\r\n\r\n")[:-1]


class Waiting:
    """An exchange that answers when it is told to."""

    def __init__(self, server: Http1Server) -> None:
        self._server = server

    def start(self) -> None: ...

    def request_end(self, trailers: Headers) -> None: ...

    def begin_answer(self) -> None:
        self._server.send_head(ResponseHead(200, []), Body(0))

    def end_answer(self) -> None:
        self._server.send_end([])

    def answer(self) -> None:
        self.begin_answer()
        self.end_answer()

    def downstream_lost(self) -> None: ...


Scenario = Callable[[Http1Server, Bytes, list[Waiting]], Coroutine[Any, Any, None]]


def ended_by(scenario: Scenario) -> None:
    async def run() -> None:
        exchanges: list[Waiting] = []

        def begin(server: Http1Server, head: RequestHead, body: Body) -> RequestSink:
            exchanges.append(Waiting(server))
            return cast(RequestSink, exchanges[-1])

        def refuse(error: ExchangeError) -> tuple[ResponseHead, bytes]:
            pytest.fail(f"refused: {error}")

        server, wire = Http1Server(Settings(), begin, refuse, lambda it: None), Bytes()
        server.connection_made(wire)
        await scenario(server, wire, exchanges)
        server.connection_lost(None)

    run_virtually(run())


def test_an_announced_end_comes_with_the_next_answer_and_closes_nothing_before() -> None:
    async def scenario(server: Http1Server, wire: Bytes, exchanges: list[Waiting]) -> None:
        server.announce_close()
        await asyncio.sleep(60)
        assert not wire.is_closed

        server.data_received(GET)
        exchanges[0].answer()

        assert b"connection: close" in wire.heads[0].lower()

    ended_by(scenario)


def test_an_answer_that_had_begun_before_the_announcement_leaves_it_to_the_next_one() -> None:
    async def scenario(server: Http1Server, wire: Bytes, exchanges: list[Waiting]) -> None:
        server.data_received(GET)
        exchanges[0].begin_answer()
        server.announce_close()
        exchanges[0].end_answer()
        server.data_received(GET)
        exchanges[1].answer()

        assert [b"connection: close" in head.lower() for head in wire.heads] == [False, True]

    ended_by(scenario)


def test_requests_that_were_sent_ahead_are_answered_before_the_end_is_announced() -> None:
    async def scenario(server: Http1Server, wire: Bytes, exchanges: list[Waiting]) -> None:
        server.data_received(GET * 3)
        server.close_when_idle()
        for number in range(3):
            exchanges[number].answer()
            await asyncio.sleep(0.01)

        assert [b"connection: close" in head.lower() for head in wire.heads] == [False, False, True]

    ended_by(scenario)


def test_a_connection_that_was_in_use_a_moment_ago_is_closed_when_it_has_been_quiet() -> None:
    async def scenario(server: Http1Server, wire: Bytes, exchanges: list[Waiting]) -> None:
        await asyncio.sleep(60)
        server.data_received(GET)
        exchanges[0].answer()
        await asyncio.sleep(0.2)

        server.close_when_idle()
        await asyncio.sleep(0.7)
        was_open = not wire.is_closed
        await asyncio.sleep(0.2)

        assert was_open
        assert wire.is_closed

    ended_by(scenario)


def test_a_connection_that_nobody_uses_is_closed_at_once() -> None:
    async def scenario(server: Http1Server, wire: Bytes, exchanges: list[Waiting]) -> None:
        await asyncio.sleep(60)
        server.close_when_idle()

        assert wire.is_closed

    ended_by(scenario)


def test_a_request_that_has_begun_to_come_is_served_before_the_end() -> None:
    async def scenario(server: Http1Server, wire: Bytes, exchanges: list[Waiting]) -> None:
        await asyncio.sleep(60)
        server.data_received(GET[:10])
        server.close_when_idle()
        await asyncio.sleep(3)
        server.data_received(GET[10:])
        exchanges[0].answer()

        assert b"connection: close" in wire.heads[0].lower()

    ended_by(scenario)
