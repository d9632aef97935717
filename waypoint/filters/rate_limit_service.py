"""Limits that all replicas share, through a rate limit service (RLS v3), such as envoyproxy/ratelimit with Redis.

Each rule that counts for a request is one descriptor: the rule, and the values that it tells apart; it brings its limit
along, so that the service needs to know the domain only. Rules count as the service counts: in fixed windows.

No request waits longer than the policy's timeout. After five failures in a row only one request a second is asked
about; the others have their answer at once: pass or fail, as the policy says. Imported where a policy uses it, because
of what comes with it.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/ratelimit/v3/rls.proto
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b

import grpc
import grpc.aio

from policies import wire_text
from policies.attributes import Header, Headers
from policies.rate_limit import LimitService, Measured, Quota, RateLimits
from waypoint._proto.rate_limit_pb2 import Code, Descriptor, RateLimitRequest, RateLimitResponse, Unit
from waypoint.errors import ExchangeError, RateLimited, RateLimitServiceFailed

_METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # gRPC's own is two minutes, for which no limit would hold
    ("grpc.max_receive_message_length", 65536),
)
_MAX_CALLS = 1024  # under way to one service
_MAX_FAILURES = 5
_SKIP_SECONDS = 1.0
_MAX_VALUE_BYTES = 256
_WINDOWS = {
    Unit.SECOND: 1,
    Unit.MINUTE: 60,
    Unit.HOUR: 3600,
    Unit.DAY: 86400,
    Unit.MONTH: 30 * 86400,
    Unit.YEAR: 365 * 86400,
}

Call = Callable[..., Awaitable[RateLimitResponse]]


@dataclass(slots=True)
class Asked:
    """What the service said of a request. `outcome` is what is counted."""

    outcome: str
    error: ExchangeError | None = None
    quota: Quota | None = None
    request_headers: Headers = field(default_factory=list)


class RateLimitClient:
    """Asks one service. Made inside the event loop, closed by whoever made it."""

    def __init__(self, service: LimitService) -> None:
        self._service = service
        self._channel = grpc.aio.insecure_channel(service.address, options=_OPTIONS)
        self._call: Call = self._channel.unary_unary(
            _METHOD,
            request_serializer=RateLimitRequest.SerializeToString,
            response_deserializer=RateLimitResponse.FromString,
        )
        self._calls = 0
        self._failures = 0
        self._skips_until = 0.0

    async def ask(self, limits: RateLimits, measured: Measured) -> Asked:
        response = await self._response(_request(self._service, measured))
        if response is not None:
            return answer(limits, measured, response)
        if self._service.is_fail_open:
            return Asked("failure_mode_allowed")
        return Asked("error", RateLimitServiceFailed())

    async def close(self) -> None:
        """Those who wait for an answer still get it."""
        await self._channel.close(grace=self._service.timeout_seconds)

    async def _response(self, request: RateLimitRequest) -> RateLimitResponse | None:
        """None when there is none in time, or it isn't worth waiting for."""
        if not self._may_call(time.monotonic()):
            return None
        seconds = self._service.timeout_seconds
        self._calls += 1
        try:
            async with asyncio.timeout(seconds):
                response = await self._call(request, timeout=seconds)
        except (TimeoutError, grpc.RpcError, grpc.aio.BaseError):
            self._failures += 1
            return None
        finally:
            self._calls -= 1
        self._failures = 0
        return response if response.overall_code != Code.UNDECIDED else None

    def _may_call(self, now: float) -> bool:
        if not self._service.address or self._calls >= _MAX_CALLS:
            return False
        if self._failures < _MAX_FAILURES:
            return True
        if now < self._skips_until:
            return False
        self._skips_until = now + _SKIP_SECONDS
        return True


def answer(limits: RateLimits, measured: Measured, response: RateLimitResponse) -> Asked:
    """What becomes of the request; a rule that is a shadow refuses nobody."""
    codes = [status.code for status in response.statuses]
    if len(codes) != len(measured):
        codes = [response.overall_code] * len(measured)
    over = tuple(rule for (rule, _), code in zip(measured, codes, strict=True) if code == Code.OVER_LIMIT)
    quota = Quota(
        limits,
        over=tuple(rule for rule in over if not rule.is_shadow),
        shadowed=tuple(rule for rule in over if rule.is_shadow),
        headers=[*_told(limits, measured, response), *_headers(response.response_headers_to_add)],
    )
    if not quota.over:
        outcome = "shadow_over_limit" if quota.shadowed else "ok"
        return Asked(outcome, quota=quota, request_headers=_headers(response.request_headers_to_add))
    quota.headers.append((b"x-envoy-ratelimited", b"true"))
    error = RateLimited(
        is_resource_exhausted=limits.is_resource_exhausted, detail="request_rate_limited", body=response.raw_body
    )
    return Asked("over_limit", error, quota)


def _request(service: LimitService, measured: Measured) -> RateLimitRequest:
    descriptors = []
    for rule, key in measured:
        entries = [Descriptor.Entry(key="rule", value=rule.bucket)]
        labelled = zip(rule.labels, key, strict=True) if rule.labels else ()
        entries += [Descriptor.Entry(key=label, value=_text(part)) for label, part in labelled if label]
        limit = Descriptor.Limit(requests_per_unit=rule.limit.requests, unit=rule.limit.unit.upper())
        descriptors.append(Descriptor(entries=entries, limit=limit))
    return RateLimitRequest(domain=service.domain, descriptors=descriptors)


def _text(value: bytes) -> str:
    """A value as the service keeps it; of a long one the digest."""
    if len(value) > _MAX_VALUE_BYTES:
        value = blake2b(value, digest_size=16).hexdigest().encode()
    return value.decode("latin-1")


def _told(limits: RateLimits, measured: Measured, response: RateLimitResponse) -> Headers:
    """What clients are told of the tightest limit, as Envoy writes it; of shadows nothing."""
    pairs = zip(measured, response.statuses, strict=False)
    statuses = [it for (rule, _), it in pairs if it.HasField("current_limit") and not rule.is_shadow]
    if not limits.has_headers or not statuses:
        return []
    tightest = min(statuses, key=lambda it: it.limit_remaining)
    policies = ", ".join(
        f"{it.current_limit.requests_per_unit};w={_WINDOWS.get(it.current_limit.unit, 0)}" for it in statuses
    )
    reset = tightest.duration_until_reset
    return [
        (b"x-ratelimit-limit", f"{tightest.current_limit.requests_per_unit}, {policies}".encode()),
        (b"x-ratelimit-remaining", b"%d" % tightest.limit_remaining),
        (b"x-ratelimit-reset", b"%d" % (reset.seconds + (reset.nanos > 0))),
    ]


def _headers(values: Iterable[RateLimitResponse.HeaderValue]) -> Headers:
    return list(_fields(values))


def _fields(values: Iterable[RateLimitResponse.HeaderValue]) -> Iterator[Header]:
    """Those that can be header fields, and say nothing of how the message is framed."""
    for it in values:
        with suppress(ValueError):
            yield wire_text.field(it.key, (it.raw_value or it.value.encode()).strip(b" \t"))
