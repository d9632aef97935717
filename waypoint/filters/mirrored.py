"""A copy of a request for a mirror. It has its own attempt at its own endpoint, and its response is dropped.

A mirror never delays or fails the original request. The copy gets the body as the client sends it. It is aborted if it
falls too far behind or takes too long. The number of simultaneous copies is bounded.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Protocol

from l4.config.settings import Section, setting
from policies.attributes import Headers, RequestHead, ResponseHead
from policies.balancing.endpoint import Endpoint
from policies.rewrite import split_port
from waypoint.errors import ExchangeError
from waypoint.filters.filter import Environment, Filtering
from waypoint.http.events import Body
from waypoint.upstream.attempts import Attempts
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.events import ClusterEvent


@dataclass(frozen=True, slots=True)
class MirrorSettings(Section):
    title = "Mirrored requests"

    max_mirrors: int = setting(1024, least=0, most=2**31 - 1)
    """Mirrored requests at once; no more are made beyond it."""
    mirror_seconds: float = 15.0
    """Time for a mirrored request; nobody waits for it."""


class Count(Protocol):
    """The number of copies under way."""

    count: int


class MirroredRequest:
    """Implements `attempts.AttemptSink`."""

    __slots__ = ("_attempts", "_count", "_deadline", "_is_ended", "_is_over", "_is_paused", "_lag", "_max_lag")

    def __init__(self, count: Count, environment: Environment, cluster: Cluster, request: Filtering) -> None:
        self._count = count
        self._max_lag = environment.upstream.retry_buffer_bytes
        self._lag = 0
        self._is_paused = False
        self._is_ended = False
        self._is_over = False
        seconds = environment.settings.of(MirrorSettings).mirror_seconds
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.abort)
        is_http2 = cluster.config.speaks_http2(request.protocol)
        self._attempts = Attempts(
            self,
            cluster,
            _shadow(request.head),
            request.body,
            is_http2,
            environment.originator,
            environment.spawn,
            environment.upstream,
        )
        count.count += 1
        self._attempts.start()

    def send_body(self, data: bytes) -> None:
        if self._is_over:
            return
        if self._is_paused:
            self._lag += len(data)
            if self._lag > self._max_lag:
                self.abort()
                return
        if not self._attempts.send_body(data):
            self._is_paused = True

    def send_end(self, trailers: Headers) -> None:
        self._is_ended = True
        if not self._is_over:
            self._attempts.send_end(trailers)

    def abandon(self) -> None:
        """The exchange is over: abort the copy if it got only a part of the body."""
        if not self._is_ended:
            self.abort()

    def abort(self) -> None:
        if not self._is_over:
            self._attempts.abort()
            self._end()

    # -- attempts.AttemptSink --------------------------------------------------------------------------------------

    def attempt_began(self, endpoint: Endpoint, head_bytes: int) -> None: ...

    def event_noted(self, event: ClusterEvent) -> None: ...

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers) -> None:
        self._attempts.finished()
        self._end()

    def resume_upstream(self) -> None:
        self._is_paused = False
        self._lag = 0

    def attempt_failed(self, error: ExchangeError) -> None:
        self._attempts.failed(error)

    def attempts_failed(self, error: ExchangeError, unreached: Endpoint | None = None) -> None:
        self._end()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._count.count -= 1
            self._deadline.cancel()


def _shadow(head: RequestHead) -> RequestHead:
    """Return the head with Envoy's mark, `reviews-shadow:9080`, by which a service can recognize mirrored requests."""
    host, port = split_port(head.authority)
    authority = b"%b-shadow:%b" % (host, port) if port else host + b"-shadow"
    return replace(head, authority=authority, headers=list(head.headers))
