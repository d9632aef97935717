"""Header overrides of a caller for its own request, and their limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import Header, Headers, Identity, Peer, RequestHead
from policies.overrides import MAX_ATTEMPTS, is_own_request, override
from policies.retry import DEFAULT_RETRIES, UNDELIVERED, Condition, RetryPolicy
from policies.route import Rule
from policies.timeout import Timeouts

IDENTITY = Identity("cluster.local", "default", "client")
RULE = Rule("rule", (), timeouts=Timeouts(request=10))


def overridden(*headers: Header, rule: Rule = RULE) -> tuple[RetryPolicy, Timeouts]:
    result = override(rule, list(headers))
    assert result.retry is not None
    return result.retry, result.timeouts


@pytest.mark.parametrize(
    ("identity", "forwarded", "expected"),
    [
        (IDENTITY, [], True),
        (IDENTITY, [b"10.1.2.3"], True),
        (IDENTITY, [b" fd00::1 "], True),
        (IDENTITY, [b"203.0.113.7, 10.1.2.3"], False),
        (IDENTITY, [b"8.8.8.8"], False),
        (IDENTITY, [b"10.1.2.3", b"10.1.2.4"], False),
        (IDENTITY, [b"\xff"], False),
        (IDENTITY, [b""], False),
        (None, [], False),
    ],
)
def test_only_a_workload_that_speaks_for_itself_is_heard(
    identity: Identity | None, forwarded: list[bytes], expected: bool
) -> None:
    head = RequestHead(b"GET", b"app", b"/", b"", [(b"x-forwarded-for", value) for value in forwarded])

    assert is_own_request(Peer(identity, "10.0.0.1", 1), head) is expected


def test_conditions_codes_and_headers_are_added_to_the_routes() -> None:
    retry, _ = overridden(
        (b"x-envoy-retry-on", b"5xx, nonsense,retriable-status-codes,retriable-headers"),
        (b"x-envoy-retry-grpc-on", b"unavailable"),
        (b"x-envoy-retriable-status-codes", b"429,x, 4290"),
        (b"x-envoy-retriable-header-names", b"X-Again, "),
    )

    assert retry.conditions == UNDELIVERED | {
        Condition.FIVE_XX,
        Condition.RETRIABLE_STATUS_CODES,
        Condition.RETRIABLE_HEADERS,
        Condition.GRPC_UNAVAILABLE,
    }
    assert retry.statuses == {429}
    assert retry.headers == {b"x-again"}
    assert retry.attempts == DEFAULT_RETRIES.attempts


@pytest.mark.parametrize(
    ("value", "attempts"), [(b"0", 0), (b"5", 5), (b"1000000", MAX_ATTEMPTS), (b"-1", 2), (b"", 2), (b"x", 2)]
)
def test_the_number_of_attempts_is_the_callers_within_a_bound(value: bytes, attempts: int) -> None:
    assert overridden((b"x-envoy-max-retries", value))[0].attempts == attempts


@pytest.mark.parametrize(
    ("header", "request_seconds", "per_try_seconds"),
    [
        ((b"x-envoy-upstream-rq-timeout-ms", b"1500"), 1.5, None),
        ((b"x-envoy-upstream-rq-timeout-ms", b"0"), None, None),
        ((b"x-envoy-upstream-rq-timeout-ms", b"soon"), 10, None),
        ((b"x-envoy-upstream-rq-per-try-timeout-ms", b"250"), 10, 0.25),
        ((b"x-envoy-upstream-rq-per-try-timeout-ms", b"10000"), 10, None),
    ],
)
def test_the_timeouts_are_the_callers(
    header: Header, request_seconds: float | None, per_try_seconds: float | None
) -> None:
    retry, timeouts = overridden(header)

    assert timeouts.request == request_seconds
    assert retry.per_try_timeout == per_try_seconds


def test_of_a_header_that_comes_twice_the_first_counts() -> None:
    headers = (b"x-envoy-max-retries", b"3"), (b"x-envoy-max-retries", b"7")

    assert overridden(*headers)[0].attempts == 3


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"x-envoy-retry-on",
                    b"x-envoy-max-retries",
                    b"x-envoy-retriable-status-codes",
                    b"x-envoy-retriable-header-names",
                    b"x-envoy-upstream-rq-timeout-ms",
                    b"x-envoy-upstream-rq-per-try-timeout-ms",
                ]
            ),
            st.binary(max_size=20),
        )
    )
)
def test_nothing_a_caller_says_breaks_anything(headers: Headers) -> None:
    retry, timeouts = overridden(*headers)

    assert retry.conditions >= UNDELIVERED
    assert 0 <= retry.attempts <= MAX_ATTEMPTS
    assert timeouts.request is None or timeouts.request > 0
