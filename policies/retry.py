"""When a request is sent once more, and how long after: VirtualService `retries`, HTTPRoute `rules[].retry`.

The conditions are Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`, with its meanings:
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on
Two things are decided otherwise, because a second delivery of a request is a side effect of ours:

- Without a policy, a request is sent again only after it provably was not delivered. Istio's default lists gRPC's
  `unavailable` and `cancelled` too, which say no such thing, and a gRPC request is a POST. Who wants them lists them.
- A kept-alive connection may be closed by the endpoint in the very moment it is used again. That is our connection's
  matter, not the route's: an idempotent request gets one more attempt whatever the policy says.

Nothing is sent again once the client has seen a byte of a response; the caller keeps that, and the body.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum

from policies.attributes import Headers
from policies.outcome import Ending, Outcome

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})  # RFC 9110 section 9.2.2
BACKOFF_SECONDS = 0.025  # Envoy's base interval
LONGEST_RETRY_AFTER = 5.0  # seconds for which it makes sense to hold a client instead of telling it


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
_LOOK_AT_RESPONSES = frozenset(Condition) - (_NEED_NO_RESPONSE - {Condition.FIVE_XX, Condition.GATEWAY_ERROR})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` counts those after the first; 0 switches retries off. `statuses` belong to RETRIABLE_STATUS_CODES,
    `headers` (lower-case names) to RETRIABLE_HEADERS. `backoff` is the longest first pause and doubles up to
    `max_backoff`; `per_try_timeout` is how long one attempt has for its response's head; all in seconds.
    `avoids_tried`: where there is another endpoint, an attempt goes to one that had none before.
    `looks_at_responses`: whether a response may be a reason to try again."""

    conditions: frozenset[Condition]
    attempts: int = 2
    statuses: frozenset[int] = frozenset()
    headers: frozenset[bytes] = frozenset()
    backoff: float = BACKOFF_SECONDS
    max_backoff: float = 10 * BACKOFF_SECONDS
    per_try_timeout: float | None = None
    avoids_tried: bool = True
    looks_at_responses: bool = field(init=False)

    def __post_init__(self) -> None:
        looks = self.attempts > 0 and not _LOOK_AT_RESPONSES.isdisjoint(self.conditions)
        object.__setattr__(self, "looks_at_responses", looks)

    def asks_for(self, outcome: Outcome, *, is_idempotent: bool) -> bool:
        """Whether this end of an attempt is a reason to try again, however often that was done before."""
        if outcome.is_stale and is_idempotent:
            return True
        if not self.attempts:
            return False
        if outcome.ending is Ending.RESPONSE:
            return self._asks_for_response(outcome.status, outcome.headers)
        return not _BY_ENDING[outcome.ending].isdisjoint(self.conditions)

    def allows(self, count: int, outcome: Outcome) -> bool:
        """Whether there may be another attempt after `count` of them."""
        return count <= (max(self.attempts, 1) if outcome.is_stale else self.attempts)

    def delay(self, count: int, roll: float) -> float:
        """Seconds to pause after `count` attempts; `roll` in [0, 1) spreads those who failed together (full jitter)."""
        return roll * min(self.backoff * 2.0 ** min(count - 1, 64), self.max_backoff)

    def _asks_for_response(self, status: int, headers: Headers) -> bool:
        conditions = self.conditions
        names = {name for name, _ in headers}
        if b"x-envoy-overloaded" in names:
            return False
        if b"x-envoy-ratelimited" in names:
            return Condition.RATE_LIMITED in conditions
        return (
            (Condition.FIVE_XX in conditions and 500 <= status < 600)
            or (Condition.GATEWAY_ERROR in conditions and 502 <= status <= 504)
            or (Condition.RETRIABLE_4XX in conditions and status == 409)
            or (Condition.RETRIABLE_STATUS_CODES in conditions and status in self.statuses)
            or (Condition.RETRIABLE_HEADERS in conditions and not self.headers.isdisjoint(names))
            or _BY_GRPC_STATUS.get(_grpc_status(headers)) in conditions
        )


UNDELIVERED = frozenset({Condition.CONNECT_FAILURE, Condition.REFUSED_STREAM})
DEFAULT_RETRIES = RetryPolicy(UNDELIVERED)
"""Without a policy: twice, after what provably was not delivered."""


def retries_on_statuses(
    statuses: Collection[int],
    attempts: int | None = None,
    backoff: float | None = None,
    per_try_timeout: float | None = None,
) -> RetryPolicy:
    """HTTPRoute's `retry`: the statuses it lists, and always what brought no response: connections that fail or break
    off, and attempts that took too long (GEP-1731)."""
    base = BACKOFF_SECONDS if backoff is None else backoff
    return RetryPolicy(
        UNDELIVERED | ({Condition.RESET, Condition.RETRIABLE_STATUS_CODES} if statuses else {Condition.RESET}),
        attempts=DEFAULT_RETRIES.attempts if attempts is None else attempts,
        statuses=frozenset(statuses),
        backoff=base,
        max_backoff=10 * base,
        per_try_timeout=per_try_timeout,
    )


def retry_after(headers: Headers, now: float) -> float:
    """Seconds for which a response asks to be left alone (RFC 9110 section 10.2.3); 0 without a wish that can be
    understood. `now` is wall-clock time."""
    value = next((value for name, value in headers if name == b"retry-after"), b"")
    if value.isdigit():
        return float(value[:9])
    try:
        return max(parsedate_to_datetime(value.decode("latin-1")).timestamp() - now, 0.0) if value else 0.0
    except ValueError:
        return 0.0


def _grpc_status(headers: Headers) -> bytes:
    """Of a response's head: where gRPC answers with an error and nothing else."""
    return next((value for name, value in headers if name == b"grpc-status"), b"")
