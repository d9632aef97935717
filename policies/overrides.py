"""Timeouts and retries that a caller sets for its own request with Envoy's `x-envoy-*` request headers.

The headers are removed from every request. They are honored only if a mesh workload sent the request on its own behalf:
the peer is authenticated, and `x-forwarded-for` names no external client (Envoy's test for an internal request).
Invalid values are ignored. Hedging is not supported.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#http-headers-consumed-from-downstream-requests
"""

from dataclasses import replace
from ipaddress import ip_address

from policies.attributes import Headers, Peer, RequestHead
from policies.retry import DEFAULT_RETRIES, Condition, RetryPolicy
from policies.route import Rule
from policies.timeout import Timeouts

MAX_ATTEMPTS = 16  # limits how often a caller can multiply its requests
_CONDITIONS = frozenset(map(str, Condition))


def is_own_request(peer: Peer, head: RequestHead) -> bool:
    """Whether the peer sent this request on its own behalf."""
    if peer.identity is None:
        return False
    forwarded = [value for name, value in head.headers if name == b"x-forwarded-for"]
    try:
        return not forwarded or ip_address(b",".join(forwarded).decode("latin-1").strip()).is_private
    except ValueError:
        return False


def override(rule: Rule, overrides: Headers) -> Rule:
    """Return the rule with the caller's overrides. `overrides` are the headers that hygiene removed from the head."""
    wishes = dict(reversed(overrides))
    timeouts = _timeouts(rule.timeouts, wishes)
    retry = _retry(rule.retry or DEFAULT_RETRIES, wishes)
    if timeouts.request is not None and retry.per_try_timeout is not None and retry.per_try_timeout >= timeouts.request:
        retry = replace(retry, per_try_timeout=None)
    return replace(rule, timeouts=timeouts, retry=retry)


def _timeouts(timeouts: Timeouts, wishes: dict[bytes, bytes]) -> Timeouts:
    milliseconds = _number(wishes.get(b"x-envoy-upstream-rq-timeout-ms"))
    return timeouts if milliseconds is None else replace(timeouts, request=milliseconds / 1000 or None)


def _retry(policy: RetryPolicy, wishes: dict[bytes, bytes]) -> RetryPolicy:
    attempts = _number(wishes.get(b"x-envoy-max-retries"))
    milliseconds = _number(wishes.get(b"x-envoy-upstream-rq-per-try-timeout-ms"))
    names = _words(wishes, b"x-envoy-retry-on") | _words(wishes, b"x-envoy-retry-grpc-on")
    statuses = _words(wishes, b"x-envoy-retriable-status-codes")
    headers = _words(wishes, b"x-envoy-retriable-header-names")
    return replace(
        policy,
        conditions=policy.conditions | {Condition(name) for name in names & _CONDITIONS},
        attempts=policy.attempts if attempts is None else min(attempts, MAX_ATTEMPTS),
        statuses=policy.statuses | {int(status) for status in statuses if status.isdecimal() and len(status) == 3},
        headers=policy.headers | {name.lower().encode("latin-1") for name in headers},
        per_try_timeout=policy.per_try_timeout if milliseconds is None else milliseconds / 1000 or None,
    )


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() and len(value) < 10 else None


def _words(wishes: dict[bytes, bytes], name: bytes) -> set[str]:
    return {word.strip() for word in wishes.get(name, b"").decode("latin-1").split(",")} - {""}
