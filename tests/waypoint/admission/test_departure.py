"""The properties of a request's head that an endpoint may rely on."""

import pytest

from policies.attributes import RequestHead
from policies.retry import DEFAULT_RETRIES, RetryPolicy, retries_on_statuses
from policies.route import Rule
from policies.timeout import Timeouts
from waypoint.admission.departure import depart


def a_head(*headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"app", b"/", b"", [*headers])


@pytest.mark.parametrize(
    ("whole", "attempt", "told"),
    [(None, None, None), (2.0, None, b"2000"), (2.0, 0.5, b"500"), (0.25, 0.5, b"250"), (None, 0.5, b"500")],
)
def test_the_shorter_of_both_timeouts_is_told(whole: float | None, attempt: float | None, told: bytes | None) -> None:
    head = a_head()
    retry = retries_on_statuses([503], per_try_timeout=attempt)

    depart(head, Rule("rule", (), timeouts=Timeouts(whole), retry=retry), is_grpc=False)

    assert head.get(b"x-envoy-expected-rq-timeout-ms") == told
    assert head.headers[-1] == (b"x-envoy-attempt-count", b"1")  # which attempts overwrite where it stands


@pytest.mark.parametrize("retry", [None, RetryPolicy(frozenset(), attempts=0)])
def test_attempts_are_repeated_as_the_rule_says_or_by_default(retry: RetryPolicy | None) -> None:
    assert depart(a_head(), Rule("rule", (), retry=retry), is_grpc=False)[0] == (retry or DEFAULT_RETRIES)


@pytest.mark.parametrize(
    ("whole", "asked", "deadline", "told", "milliseconds"),
    [
        (None, b"3S", 3.0, b"3S", b"3000"),
        (5.0, b"3S", 3.0, b"3S", b"3000"),
        (1.5, b"3S", 1.5, b"1500m", b"1500"),
        (1.5, b"soon", None, b"soon", b"1500"),
        (None, b"soon", None, b"soon", None),
    ],
)
def test_a_callers_deadline_is_passed_on_no_longer_than_the_rules(
    whole: float | None, asked: bytes, deadline: float | None, told: bytes, milliseconds: bytes | None
) -> None:
    head = a_head((b"grpc-timeout", asked))

    _, found = depart(head, Rule("rule", (), timeouts=Timeouts(whole)), is_grpc=True)

    assert (found, head.get(b"grpc-timeout")) == (deadline, told)
    assert head.get(b"x-envoy-expected-rq-timeout-ms") == milliseconds


def test_only_grpc_has_deadlines_of_callers() -> None:
    assert depart(a_head((b"grpc-timeout", b"3S")), Rule("rule", ()), is_grpc=False)[1] is None
