"""The translation of gRPC-Web, byte by byte; browsers and a real service: tests/waypoint/test_grpc_web.py."""

from base64 import b64decode, b64encode

import pytest

from policies.attributes import Headers, RequestHead, ResponseHead
from policies.last_look import Unwritable
from waypoint.errors import ExchangeError
from waypoint.http.events import STREAMED, Body
from waypoint.http.grpc_web import GrpcWeb, is_grpc_web

MESSAGE = b"\0\0\0\0\5hello"


class Exchange:
    """Notes what an exchange gets. A `RequestSink`."""

    def __init__(self) -> None:
        self.body = b""
        self.end = ""

    def start(self) -> None: ...

    def request_body(self, data: bytes) -> None:
        self.body += data

    def request_end(self, trailers: Headers) -> None:
        self.end = self.end or "whole"

    def request_failed(self, error: ExchangeError) -> None:
        self.end = str(error.detail)

    def policies_changed(self) -> None: ...

    def downstream_lost(self) -> None: ...

    def resume_response(self) -> None: ...


class Client:
    """Notes what a client gets. A `Downstream`."""

    protocol = "HTTP/1.1"

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.head_body: Body | None = None
        self.body = b""
        self.trailers: Headers | None = None

    def send_head(self, head: ResponseHead, body: Body) -> int:
        self.head, self.head_body = head, body
        return 0

    def send_informational(self, head: ResponseHead) -> None: ...

    def send_body(self, data: bytes) -> bool:
        self.body += data
        return True

    def send_end(self, trailers: Headers) -> None:
        self.trailers = trailers

    def reset(self) -> None: ...

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...


def translated(content_type: bytes, accept: bytes = b"") -> tuple[GrpcWeb, RequestHead, Exchange, Client]:
    headers = [(b"content-type", content_type), (b"x-a", b"1"), *([(b"accept", accept)] if accept else [])]
    head, client, exchange = RequestHead(b"POST", b"echo", b"/Echo/Say", b"", headers), Client(), Exchange()
    web = GrpcWeb(client, head)
    web.translate(exchange)
    return web, head, exchange, client


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        (b"application/grpc-web", True),
        (b"application/grpc-web+proto", True),
        (b"application/grpc-web-text;charset=utf-8", True),
        (b"application/grpc-website", False),
        (b"application/grpc", False),
    ],
)
def test_grpc_web_is_known_by_its_content_type(content_type: bytes, answer: bool) -> None:
    head = RequestHead(b"POST", b"echo", b"/", b"", [(b"content-type", content_type)])

    assert is_grpc_web(head) is answer


@pytest.mark.parametrize("content_type", [b"application/grpc-web+proto", b"application/grpc-web-text+proto"])
def test_the_endpoint_gets_the_head_of_grpc(content_type: bytes) -> None:
    _, head, _, _ = translated(content_type)

    assert head.headers == [(b"x-a", b"1"), (b"content-type", b"application/grpc+proto"), (b"te", b"trailers")]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 100])
def test_text_is_decoded_however_it_is_cut(size: int) -> None:
    web, _, exchange, _ = translated(b"application/grpc-web-text")
    encoded = b64encode(MESSAGE) + b64encode(b"padded") + b64encode(b"again!")

    for start in range(0, len(encoded), size):
        web.request_body(encoded[start : start + size])
    web.request_end([])

    assert (exchange.body, exchange.end) == (MESSAGE + b"padded" + b"again!", "whole")
    assert web.body(Body(len(encoded))) is STREAMED


@pytest.mark.parametrize("text", [b"AAA", b"AA*A", b"=AAA"])
def test_text_that_is_no_base64_fails_the_request(text: bytes) -> None:
    web, _, exchange, _ = translated(b"application/grpc-web-text")

    web.request_body(text)
    web.request_end([])

    assert exchange.end == "grpc_web.malformed_base64"


def test_trailers_become_the_last_frame_of_the_body() -> None:
    web, _, _, client = translated(b"application/grpc-web")

    web.send_head(ResponseHead(200, [(b"content-type", b"application/grpc")]), STREAMED)
    web.send_body(MESSAGE)
    web.send_end([(b"grpc-status", b"0"), (b"grpc-message", b"well")])

    block = b"grpc-status: 0\r\ngrpc-message: well\r\n"
    assert client.body == MESSAGE + b"\x80" + len(block).to_bytes(4) + block
    assert client.trailers == []
    assert client.head is not None
    assert client.head.get(b"content-type") == b"application/grpc-web"


def test_a_client_that_accepts_text_gets_text_with_its_trailers() -> None:
    web, _, _, client = translated(b"application/grpc-web+proto", accept=b"application/grpc-web-text")

    web.send_head(ResponseHead(200, [(b"content-type", b"application/grpc")]), STREAMED)
    web.send_end([(b"grpc-status", b"0")])

    assert client.head is not None
    assert client.head.get(b"content-type") == b"application/grpc-web-text+proto"
    assert b64decode(client.body).endswith(b"grpc-status: 0\r\n")


def test_a_response_that_is_no_grpc_passes_as_it_is() -> None:
    web, _, _, client = translated(b"application/grpc-web-text", accept=b"application/grpc-web-text")

    web.send_head(ResponseHead(404, [(b"content-type", b"text/plain")]), Body(4))
    web.send_body(b"gone")

    assert client.body == b"gone"
    assert client.head is not None
    assert client.head.get(b"content-type") == b"text/plain"


def test_trailers_cannot_break_out_of_their_frame() -> None:
    web, _, _, _ = translated(b"application/grpc-web")

    with pytest.raises(Unwritable):
        web.send_end([(b"grpc-message", b"x\r\ngrpc-status: 0")])
