"""Valid trailers; test_hygiene_of_both shows that both versions of HTTP check them."""

import pytest

from waypoint.errors import BadRequest
from waypoint.http.settings import HttpSettings
from waypoint.http.trailers import request_trailers, response_trailers, without

KEPT = [(b"grpc-status", b"0"), (b"digest", b"x"), (b"server-timing", b"db;dur=5")]


def test_what_trailers_are_for_passes_with_lower_case_names() -> None:
    fields = [(b"Grpc-Status", b"0 "), (b"Digest", b"\tx"), (b"Server-Timing", b"db;dur=5")]

    assert response_trailers(fields) == KEPT
    assert request_trailers(fields, HttpSettings()) == KEPT


@pytest.mark.parametrize(
    "name",
    [
        *(b"Transfer-Encoding", b"content_length", b"Host", b"authorization", b"Cookie", b"set_cookie", b":status"),
        *(b"X-Forwarded-For", b"x_forwarded_for", b"x-envoy-attempt-count", b"Proxy-Authorization", b"forwarded"),
    ],
)
def test_what_only_heads_may_say_is_left_out_however_it_is_spelled(name: bytes) -> None:
    assert response_trailers([(name, b"x"), *KEPT]) == KEPT


@pytest.mark.parametrize("name", [b"user-agent", b"if-match", b"sec-fetch-mode", b"x-request-id", b"traceparent"])
def test_what_a_request_says_of_its_client_may_stand_in_trailers_of_responses_only(name: bytes) -> None:
    assert request_trailers([(name, b"x")], HttpSettings()) == []
    assert response_trailers([(name, b"x")]) == [(name, b"x")]


@pytest.mark.parametrize(("setting", "kept"), [("keep", [(b"my_sum", b"1"), *KEPT]), ("drop", KEPT)])
def test_underscores_are_kept_or_dropped_by_the_setting(setting: str, kept: list[tuple[bytes, bytes]]) -> None:
    settings = HttpSettings(headers_with_underscores=setting)

    assert request_trailers([(b"my_sum", b"1"), *KEPT], settings) == kept


def test_underscores_are_refused_by_the_setting() -> None:
    with pytest.raises(BadRequest):
        request_trailers([(b"my_sum", b"1")], HttpSettings(headers_with_underscores="reject"))


def test_further_names_are_taken_out_in_both_spellings() -> None:
    assert without([(b"x-user", b"1"), (b"x_user", b"2"), *KEPT], {b"x-user"}) == KEPT
