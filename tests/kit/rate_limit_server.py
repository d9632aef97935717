"""A rate limit service (RLS v3) of the real grpcio: it counts as envoyproxy/ratelimit does, or misbehaves as told."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from tests.kit.grpc_server import grpc_server
from waypoint._proto.rate_limit_pb2 import Code, RateLimitRequest, RateLimitResponse, Unit


@dataclass
class RateLimitServer:
    """`delay_seconds` makes it slow, `is_failing` makes it fail, and when `is_careless` it asks for headers
    that no request may have; `counts` is by domain and descriptor. `limit`, a
    minute, is for descriptors that bring none along."""

    delay_seconds: float = 0.0
    is_careless: bool = False
    limit: int = 0
    is_failing: bool = False
    requests: list[RateLimitRequest] = field(default_factory=list)
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    is_stopping: threading.Event = field(default_factory=threading.Event)

    def should_limit(self, request: RateLimitRequest, context: object) -> RateLimitResponse:
        self.requests.append(request)
        self.is_stopping.wait(self.delay_seconds)
        if self.is_failing:
            raise RuntimeError("told to fail")
        response = RateLimitResponse(overall_code=Code.OK)
        for descriptor in request.descriptors:
            key = (request.domain, *(part for it in descriptor.entries for part in (it.key, it.value)))
            self.counts[key] += 1
            limit, unit = descriptor.limit.requests_per_unit, descriptor.limit.unit
            if not limit:
                limit, unit = self.limit, Unit.MINUTE
            is_over = self.counts[key] > limit
            response.statuses.add(
                code=Code.OVER_LIMIT if is_over else Code.OK,
                current_limit=RateLimitResponse.RateLimit(requests_per_unit=limit, unit=unit),
                limit_remaining=max(0, limit - self.counts[key]),
                duration_until_reset=RateLimitResponse.Duration(seconds=42, nanos=1),
            )
            if is_over:
                response.overall_code = Code.OVER_LIMIT
                response.raw_body = b"slow down"
        response.response_headers_to_add.add(key="X-Counted", value="yes")
        if self.is_careless:
            response.request_headers_to_add.add(key="Content-Length", value="5")
            response.request_headers_to_add.add(key="X-Split", value="a\r\nb: c")
        response.request_headers_to_add.add(key="X-Measured", value="yes")
        return response


@contextmanager
def rate_limit_server(
    ip: str, port: int = 8081, credentials: grpc.ServerCredentials | None = None
) -> Iterator[RateLimitServer]:
    it = RateLimitServer()
    method = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
    with grpc_server(f"{ip}:{port}", method, it.should_limit, RateLimitRequest, it.is_stopping, credentials):
        yield it
