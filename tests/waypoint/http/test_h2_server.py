"""Refusals of the HTTP/2 front, and their names: raw frames in, reasons out."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from l4.http2 import frames
from l4.http2.engines import Engine
from policies.attributes import Headers, RequestHead, ResponseHead
from tests.contracts.http2_engine import GET, Frame, Peer
from tests.kit.mesh import with_settings
from tests.kit.virtual_time import run_virtually
from tests.kit.wire import Wire
from waypoint.errors import BadRequest, ExchangeError
from waypoint.http.events import Body, RequestSink
from waypoint.http.h2_server import Http2Server, ServerStream

BOTH = pytest.mark.parametrize("engine", list(Engine))
PING = frames.frame(frames.PING, 0, 0, bytes(8))
UPGRADE = [*GET, (b"connection", b"close")]


def refused_by_front(engine: Engine, *reads: bytes, is_full: bool = False, **changes: object) -> tuple[list[str], Wire]:
    """The reasons for which a front refuses what it reads, and what it writes; its transport may be full."""
    reasons: list[str] = []
    wire = Wire()

    def refuse(error: ExchangeError) -> tuple[ResponseHead, bytes]:
        assert isinstance(error, BadRequest)
        reasons.append(error.limit)
        return ResponseHead(400, []), b""

    async def scenario() -> None:
        settings = with_settings(http2_engine=engine.value, **changes)
        server = Http2Server(settings, lambda *it: pytest.fail("no request was to begin"), refuse, lambda it: None)
        server.connection_made(wire)
        server.data_received(frames.PREFACE + frames.settings_frame({}))
        wire.take()
        if is_full:
            server.pause_writing()
        for data in reads:
            server.data_received(data)
        server.connection_lost(None)

    run_virtually(scenario())
    return reasons, wire


@BOTH
@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (lambda peer: PING * 11, "http2_pings"),
        (lambda peer: frames.frame(frames.DATA, 0, 1, b"x"), "malformed_http"),
        (lambda peer: peer.headers(1, UPGRADE), "malformed_http"),
        (lambda peer: peer.headers(1, [*GET, (b"x", b"y" * 1000)]), "head_bytes"),
        (lambda peer: peer.headers(1, [*GET, *[(b"x", b"y")] * 6]), "head_fields"),
    ],
    ids=["flood", "frame", "head", "bytes", "fields"],
)
def test_a_mistake_is_counted_under_the_name_of_its_setting(
    engine: Engine, wire: Callable[[Peer], bytes], reason: str
) -> None:
    reasons, _ = refused_by_front(engine, wire(Peer.client_of(engine)), http2_pings=10, head_bytes=1000, head_fields=5)

    assert reasons == [reason]


@BOTH
def test_a_client_that_asks_and_does_not_read_is_cut_before_it_costs_memory(engine: Engine) -> None:
    reasons, wire = refused_by_front(engine, *[PING] * 50, is_full=True, http2_queued_control_frames=20)

    assert reasons == ["http2_queued_control_frames"]
    assert wire.is_closed
    assert len(wire.take()) < 25


# -- the end of a connection ---------------------------------------------------------------------------------------


class Answering:
    """An exchange that answers 200 at once."""

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream

    def start(self) -> None:
        self._stream.send_head(ResponseHead(200, []), Body(0))
        self._stream.send_end([])

    def request_end(self, trailers: Headers) -> None: ...


def ended_by(engine: Engine, scenario: Callable[[Http2Server, Wire, Peer], Coroutine[Any, Any, None]]) -> None:
    """Runs it with a connection whose client has said its first words."""

    async def run() -> None:
        def refuse(error: ExchangeError) -> tuple[ResponseHead, bytes]:
            pytest.fail(f"refused: {error}")

        def begin(stream: ServerStream, head: RequestHead, body: Body) -> RequestSink:
            return cast(RequestSink, Answering(stream))

        settings, wire = with_settings(http2_engine=engine.value), Wire()
        server = Http2Server(settings, begin, refuse, lambda it: None)
        server.connection_made(wire)
        server.data_received(frames.PREFACE + frames.settings_frame({}))
        wire.take()
        await scenario(server, wire, Peer.client_of(engine))
        server.connection_lost(None)

    run_virtually(run())


def goaways(written: list[Frame]) -> list[int]:
    return [int.from_bytes(payload[:4]) for kind, _, _, payload in written if kind == frames.GOAWAY]


def answers_to_pings(written: list[Frame]) -> bytes:
    return b"".join(frames.frame(frames.PING, 1, 0, payload) for kind, _, _, payload in written if kind == frames.PING)


@BOTH
def test_the_last_goaway_waits_until_the_client_has_heard_the_first(engine: Engine) -> None:
    async def scenario(server: Http2Server, wire: Wire, client: Peer) -> None:
        server.close_when_idle()
        await asyncio.sleep(0.5)
        first = wire.take()
        server.data_received(client.headers(1, GET, end_stream=True))  # sent before the client had heard anything
        answered = wire.take()
        server.data_received(answers_to_pings(first))
        await asyncio.sleep(0)
        last = wire.take()

        assert goaways(first) == [2**31 - 1]
        assert [stream for kind, _, stream, _ in answered if kind == frames.HEADERS] == [1]
        assert goaways(last) == [1]
        assert wire.is_closed

    ended_by(engine, scenario)


@BOTH
def test_a_client_that_answers_no_ping_is_not_waited_for(engine: Engine) -> None:
    async def scenario(server: Http2Server, wire: Wire, client: Peer) -> None:
        server.close_when_idle()
        await asyncio.sleep(4.9)
        assert not wire.is_closed
        await asyncio.sleep(0.2)

        assert goaways(wire.take()) == [2**31 - 1, 0]
        assert wire.is_closed

    ended_by(engine, scenario)


@BOTH
def test_an_end_that_is_announced_closes_nothing_until_it_comes(engine: Engine) -> None:
    async def scenario(server: Http2Server, wire: Wire, client: Peer) -> None:
        server.announce_close()
        announced = wire.take()
        server.data_received(answers_to_pings(announced))
        await asyncio.sleep(3)
        server.data_received(client.headers(1, GET, end_stream=True))
        meanwhile = wire.take()
        was_open = not wire.is_closed

        server.close_when_idle()
        await asyncio.sleep(0)

        assert was_open
        assert goaways(announced) == [2**31 - 1]
        assert goaways(meanwhile) == []
        assert goaways(wire.take()) == [1]
        assert wire.is_closed

    ended_by(engine, scenario)


@BOTH
def test_a_stream_that_comes_while_an_idle_connection_ends_has_its_deadlines(engine: Engine) -> None:
    failures: list[ExchangeError] = []

    class Silent:
        """An exchange that waits for its request."""

        def start(self) -> None: ...

        def request_failed(self, error: ExchangeError) -> None:
            failures.append(error)

        def downstream_lost(self) -> None: ...

    async def scenario() -> None:
        settings = with_settings(http2_engine=engine.value, idle_http_seconds=10)
        wire, client = Wire(), Peer.client_of(engine)
        server = Http2Server(settings, lambda *it: cast(RequestSink, Silent()), pytest.fail, lambda it: None)
        server.connection_made(wire)
        server.data_received(frames.PREFACE + frames.settings_frame({}))
        await asyncio.sleep(11)
        assert goaways(wire.take()) == [2**31 - 1]
        server.data_received(client.headers(1, GET))
        await asyncio.sleep(60)
        server.connection_lost(None)

    run_virtually(scenario())

    assert failures
