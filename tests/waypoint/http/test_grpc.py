"""Headers of gRPC; calls through a whole mesh: tests/waypoint/test_grpc.py."""

import pytest

from policies.attributes import ResponseHead
from waypoint.http import grpc


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
        (None, False),
    ],
)
def test_grpc_is_known_by_its_content_type(content_type: bytes | None, answer: bool) -> None:
    assert grpc.is_grpc(content_type) is answer


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"250m", 0.25), (b"10u", 1e-5), (b"5n", 5e-9)),
        *((b"123456789S", None), (b"5", None), (b"-1S", None), (b"5 S", None)),
    ],
)
def test_a_deadline_is_a_number_of_eight_digits_and_a_unit(text: bytes, seconds: float | None) -> None:
    assert grpc.deadline_of([(b"grpc-timeout", text)]) == (None if seconds is None else pytest.approx(seconds))


def test_a_deadline_that_is_set_replaces_the_callers() -> None:
    headers = grpc.with_deadline([(b"grpc-timeout", b"9S"), (b"a", b"b")], 1.5)

    assert headers == [(b"a", b"b"), (b"grpc-timeout", b"1500m")]
    assert grpc.deadline_of(headers) == 1.5


def test_an_error_is_told_in_a_head_that_is_all() -> None:
    head = grpc.reply(ResponseHead(503, [(b"content-type", b"text/plain"), (b"a", b"b")]), b"no endpoint\n 100%")

    assert head.status == 200
    assert head.headers == [
        (b"a", b"b"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
        (b"grpc-message", b"no endpoint%0A 100%25"),
    ]


@pytest.mark.parametrize(("status", "code"), [(400, b"13"), (401, b"16"), (403, b"7"), (404, b"12"), (418, b"2")])
def test_the_status_is_the_one_that_envoy_makes_of_http(status: int, code: bytes) -> None:
    assert grpc.reply(ResponseHead(status, []), b"").get(b"grpc-status") == code


def test_a_status_that_is_given_counts() -> None:
    assert grpc.reply(ResponseHead(503, []), b"", 8).get(b"grpc-status") == b"8"
