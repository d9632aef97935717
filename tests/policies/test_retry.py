"""The retry policy against a slow model of Envoy's conditions, and its own two rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Headers
from policies.outcome import Ending, Outcome
from policies.retry import (
    DEFAULT_RETRIES,
    UNDELIVERED,
    Condition,
    RetryPolicy,
    retries_on_statuses,
    retry_after,
)

NOON = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def response(status: int, *headers: tuple[bytes, bytes]) -> Outcome:
    return Outcome(Ending.RESPONSE, status, list(headers))


def policy(*conditions: str, **fields: object) -> RetryPolicy:
    return RetryPolicy(frozenset(map(Condition, conditions)), **fields)  # type: ignore[arg-type]


def asks(it: RetryPolicy, outcome: Outcome) -> bool:
    return it.asks_for(outcome, is_idempotent=False)


@pytest.mark.parametrize(
    ("condition", "outcome", "expected"),
    [
        ("5xx", response(500), True),
        ("5xx", response(599), True),
        ("5xx", response(499), False),
        ("5xx", Outcome(Ending.RESET), True),
        ("5xx", Outcome(Ending.TIMEOUT), True),
        ("gateway-error", response(501), False),
        ("gateway-error", response(502), True),
        ("gateway-error", response(503), True),
        ("gateway-error", response(504), True),
        ("gateway-error", response(505), False),
        ("gateway-error", Outcome(Ending.CONNECT_FAILURE), True),
        ("reset", Outcome(Ending.RESET), True),
        ("reset", Outcome(Ending.TIMEOUT), True),
        ("reset", response(503), False),
        ("reset-before-request", Outcome(Ending.CONNECT_FAILURE), True),
        ("reset-before-request", Outcome(Ending.RESET), False),
        ("connect-failure", Outcome(Ending.CONNECT_FAILURE), True),
        ("connect-failure", Outcome(Ending.REFUSED_STREAM), False),
        ("connect-failure", Outcome(Ending.RESET), False),
        ("refused-stream", Outcome(Ending.REFUSED_STREAM), True),
        ("refused-stream", Outcome(Ending.CONNECT_FAILURE), False),
        ("retriable-4xx", response(409), True),
        ("retriable-4xx", response(429), False),
        ("envoy-ratelimited", response(429, (b"x-envoy-ratelimited", b"true")), True),
        ("envoy-ratelimited", response(429), False),
        ("cancelled", response(200, (b"grpc-status", b"1")), True),
        ("deadline-exceeded", response(200, (b"grpc-status", b"4")), True),
        ("resource-exhausted", response(200, (b"grpc-status", b"8")), True),
        ("internal", response(200, (b"grpc-status", b"13")), True),
        ("unavailable", response(200, (b"grpc-status", b"14")), True),
        ("unavailable", response(200, (b"grpc-status", b"13")), False),
        ("unavailable", response(503), False),
    ],
)
def test_a_condition_asks_for_what_envoy_retries_under_that_name(
    condition: str, outcome: Outcome, expected: bool
) -> None:
    assert asks(policy(condition), outcome) is expected


def test_status_codes_and_header_names_count_where_their_conditions_are_listed() -> None:
    listed = policy(
        "retriable-status-codes", "retriable-headers", statuses=frozenset({418}), headers=frozenset({b"x-again"})
    )

    assert asks(listed, response(418))
    assert not asks(listed, response(503))
    assert asks(listed, response(200, (b"x-again", b"no")))
    assert not asks(policy("reset", statuses=frozenset({418})), response(418))


def test_an_overloaded_or_rate_limited_endpoint_is_left_alone() -> None:
    overloaded, limited = (b"x-envoy-overloaded", b"true"), (b"x-envoy-ratelimited", b"true")

    assert not asks(policy("5xx", "envoy-ratelimited"), response(503, overloaded))
    assert not asks(policy("5xx"), response(503, limited))
    assert asks(policy("5xx", "envoy-ratelimited"), response(503, limited))


def test_without_attempts_nothing_is_asked_for() -> None:
    off = policy(*Condition, attempts=0)

    assert not asks(off, Outcome(Ending.CONNECT_FAILURE))
    assert not asks(off, response(503))
    assert not off.looks_at_responses


def test_the_default_asks_only_for_what_nobody_has_seen() -> None:
    outcomes = [Outcome(ending, 503 if ending is Ending.RESPONSE else 0) for ending in Ending]

    assert [outcome.ending for outcome in outcomes if asks(DEFAULT_RETRIES, outcome)] == [
        Ending.CONNECT_FAILURE,
        Ending.REFUSED_STREAM,
    ]
    assert all(outcome.is_undelivered == asks(DEFAULT_RETRIES, outcome) for outcome in outcomes)
    assert not DEFAULT_RETRIES.looks_at_responses


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_a_stale_connection_costs_an_idempotent_request_one_attempt_more_whatever_the_policy(attempts: int) -> None:
    it, stale = RetryPolicy(UNDELIVERED, attempts), Outcome(Ending.RESET, is_stale=True)

    assert it.asks_for(stale, is_idempotent=True)
    assert not it.asks_for(stale, is_idempotent=False)
    assert [it.allows(count, stale) for count in (1, 2)] == [True, attempts > 1]


def test_attempts_are_counted_after_the_first() -> None:
    it = RetryPolicy(UNDELIVERED, attempts=2)

    assert [it.allows(count, Outcome(Ending.CONNECT_FAILURE)) for count in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize(
    ("count", "roll", "seconds"),
    [(1, 0.0, 0.0), (1, 0.5, 0.0125), (2, 0.5, 0.025), (3, 1.0, 0.1), (5, 1.0, 0.25), (5000, 1.0, 0.25)],
)
def test_the_pause_is_a_share_of_an_interval_that_doubles_up_to_its_bound(
    count: int, roll: float, seconds: float
) -> None:
    assert DEFAULT_RETRIES.delay(count, roll) == pytest.approx(seconds)


def test_the_pauses_of_a_route_are_its_own() -> None:
    it = retries_on_statuses([503], attempts=5, backoff=1.0)

    assert [it.delay(count, 1.0) for count in (1, 4, 5)] == [1.0, 8.0, 10.0]


def test_a_route_gets_its_statuses_and_what_brought_no_response() -> None:
    it = retries_on_statuses([500, 503], per_try_timeout=2.0)

    assert it.attempts == 2
    assert it.per_try_timeout == 2.0
    assert [asks(it, response(status)) for status in (500, 502, 503)] == [True, False, True]
    assert all(asks(it, Outcome(ending)) for ending in Ending if ending is not Ending.RESPONSE)
    assert asks(retries_on_statuses([]), Outcome(Ending.TIMEOUT))
    assert not retries_on_statuses([]).looks_at_responses


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], 0.0),
        ([(b"retry-after", b"3")], 3.0),
        ([(b"retry-after", b"9" * 400)], 999_999_999.0),
        ([(b"retry-after", b"Tue, 14 Nov 2023 22:13:30 GMT")], 10.0),
        ([(b"retry-after", b"Tue, 14 Nov 2023 22:13:10 GMT")], 0.0),
        ([(b"retry-after", b"-3")], 0.0),
        ([(b"retry-after", b"\xff")], 0.0),
        ([(b"retry-after", b"")], 0.0),
    ],
)
def test_an_endpoint_may_ask_to_be_left_alone(headers: Headers, seconds: float) -> None:
    assert retry_after(headers, NOON) == seconds


GRPC = {
    "cancelled": b"1",
    "deadline-exceeded": b"4",
    "internal": b"13",
    "resource-exhausted": b"8",
    "unavailable": b"14",
}
HEADERS = st.lists(
    st.one_of(
        st.sampled_from([(b"x-again", b"1"), (b"x-envoy-overloaded", b"true"), (b"x-envoy-ratelimited", b"true")]),
        st.sampled_from([(b"grpc-status", value) for value in (b"0", b"2", *GRPC.values())]),
    ),
    max_size=2,
    unique_by=lambda header: header[0],
)


def envoy_retries(names: set[str], outcome: Outcome) -> bool:
    """Envoy's documentation, sentence by sentence."""
    headers = dict(outcome.headers)
    reasons = set()
    if outcome.ending is not Ending.RESPONSE:
        reasons |= {"5xx", "gateway-error", "reset"}
        if outcome.ending is Ending.CONNECT_FAILURE:
            reasons |= {"connect-failure", "reset-before-request"}
        if outcome.ending is Ending.REFUSED_STREAM:
            reasons |= {"refused-stream"}
        return bool(reasons & names)
    if b"x-envoy-overloaded" in headers:
        return False
    if b"x-envoy-ratelimited" in headers:
        return "envoy-ratelimited" in names
    if outcome.status in range(500, 600):
        reasons.add("5xx")
    if outcome.status in {502, 503, 504}:
        reasons.add("gateway-error")
    if outcome.status == 409:
        reasons.add("retriable-4xx")
    if outcome.status in {418, 503}:
        reasons.add("retriable-status-codes")
    if b"x-again" in headers:
        reasons.add("retriable-headers")
    reasons |= {name for name, value in GRPC.items() if headers.get(b"grpc-status") == value}
    return bool(reasons & names)


@given(
    names=st.sets(st.sampled_from([str(condition) for condition in Condition])),
    ending=st.sampled_from(Ending),
    status=st.sampled_from([200, 301, 409, 418, 429, 499, 500, 501, 502, 503, 504, 505, 599]),
    headers=HEADERS,
)
def test_the_conditions_are_envoys(names: set[str], ending: Ending, status: int, headers: Headers) -> None:
    is_response = ending is Ending.RESPONSE
    outcome = Outcome(ending, status if is_response else 0, headers if is_response else [])
    it = policy(*names, statuses=frozenset({418, 503}), headers=frozenset({b"x-again"}))

    assert asks(it, outcome) == envoy_retries(names, outcome)
    assert it.looks_at_responses or not is_response or not asks(it, outcome)
