"""The actions of a VirtualService's route, one by one; through a mesh: tests/conformance."""

from typing import Any

import pytest
from msgspec import convert

from policies.attributes import RequestHead
from policies.fault import Abort, Delay
from policies.retry import Condition
from waypoint.config.istio import virtual_service as api
from waypoint.config.istio.virtual_actions import (
    Refused,
    body_of,
    cors_of,
    edits_of,
    fault_of,
    redirect_of,
    retry_of,
    rewrite_of,
)


def headers_of(request: dict[str, Any] | None = None, response: dict[str, Any] | None = None) -> api.Headers:
    return convert({"request": request or {}, "response": response or {}}, api.Headers)


def test_headers_that_nobody_changes_are_no_edit() -> None:
    assert edits_of("headers", headers_of()) == (None, None)


def test_the_host_is_set_apart_from_other_headers() -> None:
    request, response = edits_of("headers", headers_of({"set": {"Host": "ratings", "X-A": "1"}, "remove": ["B"]}))

    assert request is not None
    assert (request.authority, request.set, request.remove) == (b"ratings", ((b"x-a", b"1"),), (b"b",))
    assert response is None


def test_a_value_with_a_placeholder_is_filled_per_request() -> None:
    edit, _ = edits_of("headers", headers_of({"add": {"x-path": "%REQ(:PATH)%", "x-a": "1"}}))

    assert edit is not None
    assert edit.add == ((b"x-a", b"1"),)
    assert [(it.name, it.is_added) for it in edit.formatted] == [(b"x-path", True)]


@pytest.mark.parametrize(
    ("action", "field"),
    [
        (lambda: edits_of("headers", headers_of({"set": {"a": "x\r\ny: z"}})), "headers.request.set.a"),
        (lambda: edits_of("headers", headers_of(response={"add": {"a": "\0"}})), "headers.response.add.a"),
        (lambda: edits_of("headers", headers_of({"set": {"host": "a b"}})), "headers.request.set"),
        (lambda: rewrite_of(api.Rewrite(uri="/a b"), None), "rewrite.uri"),
        (lambda: redirect_of(api.Redirect(authority="a/b"), None), "redirect.authority"),
        (lambda: cors_of(api.CorsPolicy(allow_methods=("GE T",))), "corsPolicy.allowMethods"),
    ],
)
def test_text_that_cannot_become_part_of_a_message_is_refused_with_its_place(action: Any, field: str) -> None:
    with pytest.raises(Refused) as caught:
        action()

    assert caught.value.field == field


@pytest.mark.parametrize(("prefix", "path"), [(b"/v1", b"/v2/x"), (None, b"/v2")])
def test_a_redirect_replaces_the_prefix_that_matched_or_the_whole_path(prefix: bytes | None, path: bytes) -> None:
    redirect = redirect_of(api.Redirect(prefix_rewrite="/v2"), prefix)

    location = redirect.location(RequestHead(b"GET", b"reviews", b"/v1/x", b"", []), 9080)

    assert location.endswith(path)
    assert redirect.status == 301


def test_a_body_is_text_or_base64() -> None:
    bodies = [body_of(it) for it in (None, api.DirectBody(string="hé"), api.DirectBody(bytes="aGk="))]

    assert bodies == [b"", "hé".encode(), b"hi"]


def test_retries_without_reasons_have_istios() -> None:
    policy = retry_of(api.Retries(attempts=2))

    assert Condition.CONNECT_FAILURE in policy.conditions
    assert Condition.RETRIABLE_STATUS_CODES in policy.conditions
    assert policy.attempts == 2


def test_statuses_among_the_reasons_are_a_condition_of_their_own() -> None:
    policy = retry_of(api.Retries(attempts=1, retry_on="503,reset", backoff="40ms", per_try_timeout="2s"))

    assert policy.statuses == {503}
    assert policy.conditions == {Condition.RESET, Condition.RETRIABLE_STATUS_CODES}
    assert (policy.backoff, policy.max_backoff, policy.per_try_timeout) == (0.04, 0.4, 2.0)


def test_a_fault_without_a_percentage_never_happens() -> None:
    fault = fault_of(api.Fault(api.Delay("2s"), api.Abort(http_status=418)))

    assert fault.delay == Delay(2.0, 0.0)
    assert fault.abort == Abort(418, 0.0)


def test_the_newer_percentage_counts_before_the_older_one() -> None:
    percentage = convert({"value": 10}, api.Percent)

    newer = fault_of(api.Fault(api.Delay("1s", percentage=percentage, percent=50)))
    older = fault_of(api.Fault(api.Delay("1s", percent=50)))

    assert (newer.delay, older.delay) == (Delay(1.0, 0.1), Delay(1.0, 0.5))


def test_an_abort_of_grpc_has_the_http_status_that_envoy_gives() -> None:
    fault = fault_of(
        api.Fault(abort=api.Abort(grpc_status="unavailable", percentage=convert({"value": 100}, api.Percent)))
    )

    assert fault.abort == Abort(503, 1.0, 14)


def test_cors_lists_headers_in_lower_case_and_methods_as_they_are() -> None:
    cors = cors_of(api.CorsPolicy(allow_methods=("GET",), allow_headers=("X-A",), expose_headers=("X-B",)))

    assert (cors.methods, cors.headers, cors.expose) == ((b"GET",), (b"x-a",), (b"x-b",))
    assert cors.max_age_seconds is None
