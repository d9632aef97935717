"""Limits that all replicas share, through a rate limit service (RLS v3), such as envoyproxy/ratelimit with Redis.

Each rule that counts for a request is one descriptor: the rule, and the values that it tells apart; it brings its limit
along, so that the service needs to know the domain only. Rules count as the service counts: in fixed windows.

Questions go out like any request of a client's: to a cluster, by mTLS where its endpoints are in the mesh. No request
waits longer than the policy's timeout. While the service fails, most requests have their answer at once: pass or fail,
as the policy says. Imported where a policy uses it, because of what comes with it.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/ratelimit/v3/rls.proto
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from policies import wire_text
from policies.attributes import Header, Headers
from policies.breaker import Breaker
from policies.rate_limit import LimitService, Measured, Quota, RateLimits
from waypoint._proto.rate_limit_pb2 import Code, Descriptor, RateLimitRequest, RateLimitResponse, Unit
from waypoint.errors import ExchangeError, RateLimited, RateLimitServiceFailed
from waypoint.filters import grpc_call
from waypoint.filters.call import call
from waypoint.filters.filter import Environment
from waypoint.upstream.cluster import Cluster

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Span

_METHOD = b"/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
_MAX_ANSWER_BYTES = 64 << 10
_MAX_VALUE_BYTES = 256
_WINDOWS = {
    Unit.SECOND: 1,
    Unit.MINUTE: 60,
    Unit.HOUR: 3600,
    Unit.DAY: 86400,
    Unit.MONTH: 30 * 86400,
    Unit.YEAR: 365 * 86400,
}


@dataclass(slots=True)
class Asked:
    """The service's answer about a request. `outcome` is a label of the metric."""

    outcome: str
    error: ExchangeError | None = None
    quota: Quota | None = None
    request_headers: Headers = field(default_factory=list)


async def ask(
    environment: Environment,
    cluster: Cluster | None,
    breaker: Breaker,
    limits: RateLimits,
    measured: Measured,
    span: "Span | None" = None,
) -> Asked:
    """Ask the service. `cluster` is the service's, or None if it cannot be resolved."""
    service = limits.service
    assert service is not None
    response = await _response(environment, cluster, breaker, service, measured, span) if cluster is not None else None
    if response is not None:
        return answer(limits, measured, response)
    if service.is_fail_open:
        return Asked("failure_mode_allowed")
    return Asked("error", RateLimitServiceFailed())


async def _response(
    environment: Environment,
    cluster: Cluster,
    breaker: Breaker,
    service: LimitService,
    measured: Measured,
    span: "Span | None",
) -> RateLimitResponse | None:
    """Return the service's answer, or None if it fails, is too late, or the breaker is open."""
    if not breaker.take(asyncio.get_running_loop().time()):
        return None
    seconds = service.timeout_seconds
    head = grpc_call.request(service.address, _METHOD, seconds)
    if span is not None:
        span.inject(head.headers)
    message = grpc_call.framed(_request(service, measured).SerializeToString())
    try:
        async with asyncio.timeout(seconds):
            answered = await call(environment, cluster, head, message, is_http2=True, most=_MAX_ANSWER_BYTES)
        data = grpc_call.message_of(answered)
        response = RateLimitResponse.FromString(data) if data is not None else None
    except (TimeoutError, ExchangeError, DecodeError):
        response = None
    finally:
        breaker.release()
    if response is None:
        breaker.failed()
        return None
    breaker.answered()
    return response if response.overall_code != Code.UNDECIDED else None


def answer(limits: RateLimits, measured: Measured, response: RateLimitResponse) -> Asked:
    """Return the result for the request. A shadow rule refuses nothing."""
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
    quota.headers = [*quota.headers, (b"x-envoy-ratelimited", b"true")]
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
    """Return a value as text for the service; a long value as its digest."""
    if len(value) > _MAX_VALUE_BYTES:
        value = blake2b(value, digest_size=16).hexdigest().encode()
    return value.decode("latin-1")


def _told(limits: RateLimits, measured: Measured, response: RateLimitResponse) -> Headers:
    """Return the response headers about the tightest limit that is not a shadow, as in Envoy."""
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
    """Yield the valid header fields that do not affect framing."""
    for it in values:
        with suppress(ValueError):
            yield wire_text.field(it.key, (it.raw_value or it.value.encode()).strip(b" \t"))
