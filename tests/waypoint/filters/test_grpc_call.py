import pytest

from policies.attributes import Headers, ResponseHead
from waypoint.filters import grpc_call
from waypoint.filters.call import Response

OK: Headers = [(b"grpc-status", b"0")]
NONE: Headers = []


def response(body: bytes, *, status: int = 200, headers: Headers = NONE, trailers: Headers = OK) -> Response:
    return Response(ResponseHead(status, list(headers)), body, trailers)


def test_a_call_says_what_it_is_and_how_long_its_caller_waits() -> None:
    head = grpc_call.request("limits.default:8081", b"/a.B/C", 0.02)

    assert (head.method, head.authority, head.path) == (b"POST", b"limits.default:8081", b"/a.B/C")
    assert head.headers == [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"grpc-timeout", b"20m")]


@pytest.mark.parametrize("message", [b"", b"x", b"x" * 70_000])
def test_a_message_comes_back_as_it_was_framed(message: bytes) -> None:
    assert grpc_call.message_of(response(grpc_call.framed(message))) == message


@pytest.mark.parametrize(
    "failed",
    [
        response(grpc_call.framed(b"a"), status=503),
        response(grpc_call.framed(b"a"), trailers=[(b"grpc-status", b"14")]),
        response(grpc_call.framed(b"a"), trailers=[]),
        response(b"", headers=[(b"grpc-status", b"12")], trailers=[]),
        response(grpc_call.framed(b"a") + grpc_call.framed(b"b")),
        response(grpc_call.framed(b"abc")[:-1]),
        response(b"\x01" + grpc_call.framed(b"compressed")[1:]),
        response(b""),
    ],
)
def test_a_call_that_failed_has_no_message(failed: Response) -> None:
    assert grpc_call.message_of(failed) is None
