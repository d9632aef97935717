"""A stream that is cut in the same read in which something else makes us send on it: it ends, its neighbours go on."""

import struct

import pytest

from l4.http2 import frames
from l4.http2.engines import Engine
from l4.http2.errors import ErrorCode
from policies.attributes import Headers, RequestHead, ResponseHead
from tests.contracts.http2_engine import GET, OK, Peer, data
from tests.kit.mesh import with_settings
from tests.kit.virtual_time import run_virtually
from tests.kit.wire import Wire
from waypoint.errors import ExchangeError
from waypoint.http.events import Body
from waypoint.http.h2_client import Http2Client
from waypoint.http.h2_server import Http2Server, ServerStream

BOTH = pytest.mark.parametrize("engine", list(Engine))
CLOSED_WINDOW = frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0})
OPEN_WINDOWS = frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 1000})
POST = RequestHead(b"POST", b"app", b"/", b"", [])


def cut(stream_id: int) -> bytes:
    return frames.frame(frames.RST_STREAM, 0, stream_id, struct.pack(">I", ErrorCode.CANCEL))


class Answer:
    """Notes how a response ends. A `ResponseSink`."""

    def __init__(self) -> None:
        self.end = ""

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers) -> None:
        self.end = "whole"

    def attempt_failed(self, error: ExchangeError) -> None:
        self.end = type(error).__name__

    def resume_upstream(self) -> None: ...


class Echo:
    """Answers a request when it is whole, by `body`. A `RequestSink`."""

    def __init__(self, stream: ServerStream, body: bytes) -> None:
        self._stream = stream
        self._body = body
        self.is_lost = False

    def start(self) -> None: ...

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: Headers) -> None:
        self._stream.send_head(ResponseHead(200, []), Body(len(self._body)))
        self._stream.send_body(self._body)
        self._stream.send_end([])

    def request_failed(self, error: ExchangeError) -> None: ...

    def downstream_lost(self) -> None:
        self.is_lost = True

    def resume_response(self) -> None: ...


@BOTH
def test_an_endpoint_that_opens_the_window_and_cuts_one_request_still_answers_the_other(engine: Engine) -> None:
    async def scenario() -> None:
        client = Http2Client(with_settings(http2_engine=engine.value), on_gone=lambda it: None)
        client.connection_made(Wire())
        client.data_received(CLOSED_WINDOW)
        first, second = Answer(), Answer()
        for answer in (first, second):
            stream = client.stream()
            assert stream is not None
            stream.send_head(POST, Body(5), answer)
            stream.send_body(b"hello")
            stream.send_end([])

        peer = Peer.server_of(engine)
        client.data_received(OPEN_WINDOWS + cut(1) + peer.headers(3, OK, end_stream=True))

        assert first.end == "UpstreamReset"
        assert second.end == "whole"
        client.connection_lost(None)

    run_virtually(scenario())


def server(engine: Engine, body: bytes) -> tuple[Http2Server, Wire, list[Echo]]:
    exchanges: list[Echo] = []
    wire = Wire()

    def begin(stream: ServerStream, head: RequestHead, request_body: Body) -> Echo:
        exchanges.append(Echo(stream, body))
        return exchanges[-1]

    it = Http2Server(
        with_settings(http2_engine=engine.value),
        begin,
        lambda error: pytest.fail(str(error)),
        lambda server: None,
    )
    it.connection_made(wire)
    return it, wire, exchanges


@BOTH
def test_a_client_that_opens_the_window_and_cuts_one_stream_gets_the_other(engine: Engine) -> None:
    async def scenario() -> None:
        it, wire, exchanges = server(engine, b"hello")
        peer = Peer.client_of(engine)
        requests = peer.headers(1, GET, end_stream=True) + peer.headers(3, GET, end_stream=True)
        it.data_received(frames.PREFACE + CLOSED_WINDOW + requests)
        wire.take()

        it.data_received(OPEN_WINDOWS + cut(1))

        assert (frames.DATA, 3, b"hello") in [(kind, stream, payload) for kind, _, stream, payload in wire.take()]
        assert len(exchanges) == 2
        assert not it.streams
        it.connection_lost(None)

    run_virtually(scenario())


@BOTH
@pytest.mark.parametrize("body", [b"", b"hello"])
def test_an_answer_that_comes_while_its_request_is_being_cut_is_dropped(engine: Engine, body: bytes) -> None:
    async def scenario() -> None:
        it, wire, exchanges = server(engine, body)
        peer = Peer.client_of(engine)
        it.data_received(frames.PREFACE + frames.settings_frame({}) + peer.headers(1, GET))
        wire.take()

        it.data_received(data(1, b"end", end_stream=True) + cut(1) + peer.headers(3, GET, end_stream=True))

        assert {stream for kind, _, stream, _ in wire.take() if kind == frames.HEADERS} == {3}
        assert len(exchanges) == 2
        assert not it.streams
        it.connection_lost(None)

    run_virtually(scenario())
