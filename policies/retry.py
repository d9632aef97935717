"""When a request is retried, and after which delay: VirtualService `retries`, HTTPRoute `rules[].retry`.

The conditions are those of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`, with their meanings:
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on

Two decisions differ, because delivering a request twice is a side effect that the proxy causes:

- Without a policy, a request is retried only if it provably was not delivered. Istio's default also lists gRPC's
  `unavailable` and `cancelled`, which do not prove that, and a gRPC request is a POST. Users can list them.
- An endpoint may close a kept-alive connection at the moment it is reused. This concerns our connection, not the route:
  an idempotent request gets one more attempt, whatever the policy says.

A request is never retried once the client has received a byte of a response. The caller ensures that, and keeps the
body.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum

from policies.attributes import Header
from policies.outcome import RESPONSE, Ending, Outcome

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})  # RFC 9110 section 9.2.2
BACKOFF_SECONDS = 0.025  # Envoy's base interval
LONGEST_RETRY_AFTER = 5.0  # seconds; if an endpoint asks for more, the client gets the response instead of waiting


class Condition(StrEnum):
    FIVE_XX = "5xx"
    GATEWAY_ERROR = "gateway-error"
    RESET = "reset"
    RESET_BEFORE_REQUEST = "reset-before-request"
    CONNECT_FAILURE = "connect-failure"
    REFUSED_STREAM = "refused-stream"
    RETRIABLE_4XX = "retriable-4xx"
    RETRIABLE_STATUS_CODES = "retriable-status-codes"
    RETRIABLE_HEADERS = "retriable-headers"
    RATE_LIMITED = "envoy-ratelimited"
    GRPC_CANCELLED = "cancelled"
    GRPC_DEADLINE_EXCEEDED = "deadline-exceeded"
    GRPC_INTERNAL = "internal"
    GRPC_RESOURCE_EXHAUSTED = "resource-exhausted"
    GRPC_UNAVAILABLE = "unavailable"


_WITHOUT_RESPONSE = frozenset({Condition.FIVE_XX, Condition.GATEWAY_ERROR, Condition.RESET})
_BY_ENDING = {
    Ending.CONNECT_FAILURE: _WITHOUT_RESPONSE | {Condition.CONNECT_FAILURE, Condition.RESET_BEFORE_REQUEST},
    Ending.REFUSED_STREAM: _WITHOUT_RESPONSE | {Condition.REFUSED_STREAM},
    Ending.RESET: _WITHOUT_RESPONSE,
    Ending.TIMEOUT: _WITHOUT_RESPONSE,
}
_NEED_NO_RESPONSE = frozenset().union(*_BY_ENDING.values())
_BY_GRPC_STATUS = {
    b"1": Condition.GRPC_CANCELLED,
    b"4": Condition.GRPC_DEADLINE_EXCEEDED,
    b"8": Condition.GRPC_RESOURCE_EXHAUSTED,
    b"13": Condition.GRPC_INTERNAL,
    b"14": Condition.GRPC_UNAVAILABLE,
}
_STATUSES = {
    Condition.FIVE_XX: frozenset(range(500, 600)),
    Condition.GATEWAY_ERROR: frozenset({502, 503, 504}),
    Condition.RETRIABLE_4XX: frozenset({409}),
}
_LOOK_AT_HEADERS = frozenset({Condition.RATE_LIMITED, Condition.RETRIABLE_HEADERS, *_BY_GRPC_STATUS.values()})
_LOOK_AT_RESPONSES = frozenset(Condition) - (_NEED_NO_RESPONSE - {Condition.FIVE_XX, Condition.GATEWAY_ERROR})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A retry configuration. All times are in seconds.

    - `attempts` counts retries after the first attempt; 0 disables retries.
    - `statuses` belong to RETRIABLE_STATUS_CODES, `headers` (lower-case names) to RETRIABLE_HEADERS.
    - `backoff` is the longest first delay; delays double up to `max_backoff`.
    - `per_try_timeout` limits the wait of one attempt for its response head.
    - `avoids_tried`: prefer an endpoint that this request has not tried.
    - `looks_at_responses`: whether a response can cause a retry.
    """

    conditions: frozenset[Condition]
    attempts: int = 2
    statuses: frozenset[int] = frozenset()
    headers: frozenset[bytes] = frozenset()
    backoff: float = BACKOFF_SECONDS
    max_backoff: float = 10 * BACKOFF_SECONDS
    per_try_timeout: float | None = None
    avoids_tried: bool = True
    looks_at_responses: bool = field(init=False)
    _looks_at_headers: bool = field(init=False, repr=False, compare=False)
    _all_statuses: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = self.statuses if Condition.RETRIABLE_STATUS_CODES in self.conditions else frozenset()
        by_condition = [statuses for it, statuses in _STATUSES.items() if it in self.conditions]
        object.__setattr__(self, "_all_statuses", own.union(*by_condition))
        object.__setattr__(self, "_looks_at_headers", not _LOOK_AT_HEADERS.isdisjoint(self.conditions))
        looks = self.attempts > 0 and not _LOOK_AT_RESPONSES.isdisjoint(self.conditions)
        object.__setattr__(self, "looks_at_responses", looks)

    def asks_for(self, outcome: Outcome, is_idempotent: bool) -> bool:
        """Whether the outcome is a reason to retry, regardless of the number of attempts so far."""
        if outcome.is_stale and is_idempotent:
            return True
        if not self.attempts:
            return False
        if outcome.ending is RESPONSE:
            return self._asks_for_response(outcome.status, outcome.headers)
        return not _BY_ENDING[outcome.ending].isdisjoint(self.conditions)

    def allows(self, count: int, outcome: Outcome) -> bool:
        """Whether another attempt is allowed after `count` attempts."""
        return count <= (max(self.attempts, 1) if outcome.is_stale else self.attempts)

    def delay(self, count: int, roll: float) -> float:
        """Seconds to wait after `count` attempts. `roll` in [0, 1) spreads simultaneous retries (full jitter)."""
        return roll * min(self.backoff * 2.0 ** min(count - 1, 64), self.max_backoff)

    def _asks_for_response(self, status: int, headers: Sequence[Header]) -> bool:
        by_status = status in self._all_statuses
        if not by_status and not self._looks_at_headers:
            return False
        conditions = self.conditions
        names = {name for name, _ in headers}
        if b"x-envoy-overloaded" in names:
            return False
        if b"x-envoy-ratelimited" in names:
            return Condition.RATE_LIMITED in conditions
        return (
            by_status
            or (Condition.RETRIABLE_HEADERS in conditions and not self.headers.isdisjoint(names))
            or _BY_GRPC_STATUS.get(_grpc_status(headers)) in conditions
        )


UNDELIVERED = frozenset({Condition.CONNECT_FAILURE, Condition.REFUSED_STREAM})
DEFAULT_RETRIES = RetryPolicy(UNDELIVERED)
"""Without a policy: two retries, only if the request provably was not delivered."""


def retries_on_statuses(
    statuses: Collection[int],
    attempts: int | None = None,
    backoff: float | None = None,
    per_try_timeout: float | None = None,
) -> RetryPolicy:
    """HTTPRoute's `retry`: retry on the listed statuses, and whenever there was no response.

    No response means a failed or broken connection, or an attempt that timed out (GEP-1731).
    """
    base = BACKOFF_SECONDS if backoff is None else backoff
    return RetryPolicy(
        UNDELIVERED | ({Condition.RESET, Condition.RETRIABLE_STATUS_CODES} if statuses else {Condition.RESET}),
        attempts=DEFAULT_RETRIES.attempts if attempts is None else attempts,
        statuses=frozenset(statuses),
        backoff=base,
        max_backoff=10 * base,
        per_try_timeout=per_try_timeout,
    )


def retry_after(headers: Sequence[Header], now: float) -> float:
    """Seconds that a response's `retry-after` asks to wait (RFC 9110 section 10.2.3). 0 if it is absent or invalid.

    `now` is wall-clock time.
    """
    value = next((value for name, value in headers if name == b"retry-after"), b"")
    if value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value.decode("latin-1")).timestamp() - now, 0.0) if value else 0.0
    except ValueError:
        return 0.0


def _grpc_status(headers: Sequence[Header]) -> bytes:
    """The gRPC status in a response head, where trailers-only responses carry it."""
    return next((value for name, value in headers if name == b"grpc-status"), b"")
