"""A request of our own to a cluster, and its complete response. It uses the same connections, tunnels, circuit breakers
and retries as the requests of clients.

The size of the response is bounded; the caller bounds the time.
"""

import asyncio
from dataclasses import dataclass, field

from policies.attributes import Headers, RequestHead, ResponseHead
from policies.balancing.endpoint import Endpoint
from waypoint.errors import ExchangeError, UpstreamProtocolError
from waypoint.filters.filter import Environment
from waypoint.http.events import Body
from waypoint.upstream.attempts import Attempts
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.events import ClusterEvent


@dataclass(slots=True)
class Response:
    head: ResponseHead
    body: bytes
    trailers: Headers = field(default_factory=list)


async def call(
    environment: Environment, cluster: Cluster, head: RequestHead, body: bytes, *, is_http2: bool, most: int
) -> Response:
    """Send a request and return the response. Raises ExchangeError, also if the body is longer than `most` bytes."""
    it = _Call(environment, cluster, head, Body(len(body)), is_http2=is_http2, most=most)
    return await it.response(body)


class _Call:
    """Implements `attempts.AttemptSink`."""

    __slots__ = ("_attempts", "_chunks", "_done", "_head", "_most", "_size")

    def __init__(
        self, environment: Environment, cluster: Cluster, head: RequestHead, body: Body, *, is_http2: bool, most: int
    ) -> None:
        self._done: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._head: ResponseHead | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._most = most
        head.headers.append((b"x-envoy-attempt-count", b"1"))
        self._attempts: Attempts | None = Attempts(
            self, cluster, head, body, is_http2, environment.originator, environment.spawn, environment.upstream
        )

    async def response(self, body: bytes) -> Response:
        attempts = self._attempts
        assert attempts is not None
        try:
            attempts.start()
            if body and not self._done.done():
                attempts.send_body(body)
            if not self._done.done():
                attempts.send_end([])
            return await self._done
        finally:
            attempts.abort()
            self._attempts = None  # each holds the other

    # -- attempts.AttemptSink --------------------------------------------------------------------------------------

    def attempt_began(self, endpoint: Endpoint, head_bytes: int) -> None: ...

    def event_noted(self, event: ClusterEvent) -> None: ...

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None:
        self._head = head

    def response_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            self._fail(UpstreamProtocolError(f"the answer is longer than {self._most} bytes"))
        else:
            self._chunks.append(data)

    def response_end(self, trailers: Headers) -> None:
        if self._attempts is not None:
            self._attempts.finished()
        if not self._done.done():
            assert self._head is not None
            self._done.set_result(Response(self._head, b"".join(self._chunks), trailers))

    def resume_upstream(self) -> None: ...

    def attempt_failed(self, error: ExchangeError) -> None:
        if self._head is None and self._attempts is not None:
            self._attempts.failed(error)
        else:
            self._fail(error)

    def attempts_failed(self, error: ExchangeError, unreached: Endpoint | None = None) -> None:
        self._fail(error)

    def _fail(self, error: ExchangeError) -> None:
        if not self._done.done():
            self._done.set_exception(error)
