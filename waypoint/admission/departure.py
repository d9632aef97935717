"""Add timeouts and the attempt count to the head of a request that goes to an endpoint."""

from functools import lru_cache

from policies.attributes import RequestHead
from policies.retry import DEFAULT_RETRIES, RetryPolicy
from policies.route import Rule
from waypoint.http.grpc import deadline_of, with_deadline


def depart(head: RequestHead, rule: Rule, is_grpc: bool) -> tuple[RetryPolicy, float | None]:
    """Complete the head. Return the retry policy, and how many seconds a gRPC caller waits for the response."""
    retries = rule.retry or DEFAULT_RETRIES
    deadline = _grpc_deadline(head, rule) if is_grpc else None
    seconds = _least(_least(rule.timeouts.request, retries.per_try_timeout), deadline)
    if seconds is not None:
        head.headers.append((b"x-envoy-expected-rq-timeout-ms", _milliseconds(seconds)))
    head.headers.append((b"x-envoy-attempt-count", b"1"))  # attempts count it up: it stays the last one
    return retries, deadline


def _grpc_deadline(head: RequestHead, rule: Rule) -> float | None:
    """Return the caller's deadline, at most the route's timeout. It counts from the request's head."""
    seconds = deadline_of(head.headers)
    if seconds is not None and rule.timeouts.request is not None and rule.timeouts.request < seconds:
        seconds = rule.timeouts.request
        head.headers[:] = with_deadline(head.headers, seconds)
    return seconds


def _least(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


@lru_cache(maxsize=1024)
def _milliseconds(seconds: float) -> bytes:
    return b"%d" % (seconds * 1000)
