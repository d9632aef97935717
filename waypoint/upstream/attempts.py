"""The attempts of one exchange: choose an endpoint, connect, send; and try again where that is safe.

Safe are two cases, whatever the method: nothing was delivered (TCP, TLS or CONNECT failed; a CONNECT that got no 200
provably never reached the application), and a kept-alive connection that died before a byte of the answer came, when
the method is idempotent. The request's body is kept for this up to a bound; beyond it, what was sent is gone and the
exchange has its one attempt.
"""

import asyncio
from random import random
from typing import Protocol

from l4.config.settings import Settings
from policies.attributes import Headers, RequestHead
from policies.balancing.endpoint import Endpoint
from waypoint.errors import AttemptFailed, ExchangeError, NoHealthyEndpoint, UpstreamConnectFailed
from waypoint.http.client import Http1Client
from waypoint.http.events import Body, ResponseSink
from waypoint.http.h2_client import ClientStream, Http2Client
from waypoint.originate import Originator
from waypoint.upstream.cluster import Cluster, LiveEndpoint
from waypoint.upstream.connections import Spawn

RETRIES = 2  # Istio's default without a policy: twice, on failures to connect
BACKOFF_SECONDS = 0.025  # Envoy's base interval, doubled each time, with full jitter
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})  # RFC 9110 9.2.2


class AttemptSink(ResponseSink, Protocol):
    """The exchange: takes the response, or the error when no attempt is left."""

    def attempt_began(self, endpoint: Endpoint, head_bytes: int) -> None: ...

    def attempts_failed(self, error: ExchangeError) -> None: ...


class Attempts:
    """`is_http2`: what the endpoint speaks."""

    __slots__ = (
        "_body",
        "_chunks",
        "_client",
        "_cluster",
        "_connecting",
        "_head",
        "_is_http2",
        "_is_over",
        "_is_replayable",
        "_live",
        "_originator",
        "_settings",
        "_sink",
        "_size",
        "_spawn",
        "_trailers",
        "_tried",
        "count",
    )

    def __init__(
        self,
        sink: AttemptSink,
        cluster: Cluster,
        head: RequestHead,
        body: Body,
        is_http2: bool,
        originator: Originator,
        spawn: Spawn,
        settings: Settings,
    ) -> None:
        self.count = 0
        self._sink = sink
        self._cluster = cluster
        self._head = head
        self._body = body
        self._is_http2 = is_http2
        self._originator = originator
        self._spawn = spawn
        self._settings = settings
        self._live: LiveEndpoint | None = None
        self._client: Http1Client | ClientStream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tried: set[Endpoint] | tuple[()] = ()
        self._chunks: list[bytes] = []  # the body so far, while it is needed
        self._size = 0
        self._trailers: Headers | None = None  # None until the request is complete
        self._is_replayable = True
        self._is_over = False

    # -- the request -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin an attempt: on an idle connection at once, else as soon as one stands."""
        live = self._cluster.pick(random, self._tried)
        if live is None:
            self._is_over = True
            self._sink.attempts_failed(NoHealthyEndpoint())
            return
        self.count += 1
        self._live = live
        live.active += 1
        client = live.take(is_http2=self._is_http2)
        if client is not None:
            self._send(client)
        else:
            self._connecting = self._spawn(self._connect(live))

    def send_body(self, data: bytes) -> bool:
        """Pass on a part of the body; False to be sent no more until `resume_upstream`."""
        client = self._client
        if self._is_replayable:
            self._chunks.append(data)
            self._size += len(data)
            if self._size > self._settings.retry_buffer_bytes and client is not None:
                self._forget_body()
        if client is not None:
            return client.send_body(data)
        return self._size <= self._settings.retry_buffer_bytes

    def send_end(self, trailers: Headers) -> None:
        self._trailers = trailers
        if self._client is not None:
            self._client.send_end(trailers)

    def abort(self) -> None:
        """Nobody waits for the answer any more: let go of connection, tunnel and endpoint."""
        if self._is_over:
            return
        self._end()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._client is not None:
            self._client.abort()

    def finished(self) -> None:
        """The response is whole."""
        self._end()

    # -- the response's flow control -------------------------------------------------------------------------------

    def pause_response(self) -> None:
        if self._client is not None:
            self._client.pause_response()

    def resume_response(self) -> None:
        if self._client is not None:
            self._client.resume_response()

    # -- attempts --------------------------------------------------------------------------------------------------

    async def _connect(self, live: LiveEndpoint) -> None:
        try:
            if self.count > 1:
                await asyncio.sleep(BACKOFF_SECONDS * 2 ** (self.count - 2) * random())
            client = await (self._open_stream(live) if self._is_http2 else self._open_connection(live))
        except ExchangeError as error:
            self.failed(error)
        else:
            self._send(client)
        finally:
            self._connecting = None

    async def _open_connection(self, live: LiveEndpoint) -> Http1Client:
        loop = asyncio.get_running_loop()

        def free(client: Http1Client) -> None:
            live.free(client, loop.time())

        client = Http1Client(self._settings, on_free=free, on_gone=live.gone)
        await self._originator.connect(live.endpoint, lambda: client, self._cluster.config.connect_timeout_seconds)
        return client

    async def _open_stream(self, live: LiveEndpoint) -> ClientStream:
        originator, seconds = self._originator, self._cluster.config.connect_timeout_seconds

        async def connect() -> Http2Client:
            client = Http2Client(self._settings, on_gone=live.http2.gone)
            await originator.connect(live.endpoint, lambda: client, seconds)
            try:
                await asyncio.wait_for(client.is_ready, seconds)
            except TimeoutError:
                client.close()
                raise UpstreamConnectFailed(f"{live.endpoint} sent no HTTP/2 within {seconds:g} s") from None
            return client

        return await live.http2.open(connect, self._spawn)

    def _send(self, client: Http1Client | ClientStream) -> None:
        assert self._live is not None
        self._client = client
        head = self._head
        if self.count > 1:
            head.headers[-1] = (b"x-envoy-attempt-count", b"%d" % self.count)
        size = client.send_head(head, self._body, self._sink)
        self._sink.attempt_began(self._live.endpoint, size)
        takes_more = True
        for chunk in self._chunks:
            takes_more = client.send_body(chunk)
        if self._size > self._settings.retry_buffer_bytes:
            self._forget_body()
            if takes_more:
                self._sink.resume_upstream()
        if self._trailers is not None:
            client.send_end(self._trailers)

    def _forget_body(self) -> None:
        self._is_replayable = False
        self._chunks.clear()

    def failed(self, error: ExchangeError) -> None:
        """The attempt under way brought no response: try again, or tell the exchange."""
        if self._is_over:
            return
        client, live = self._client, self._live
        self._client = self._live = None
        if live is not None:
            live.active -= 1
            if self._may_retry(error, client):
                if not self._tried:
                    self._tried = set()
                self._tried.add(live.endpoint)
                self.start()
                return
        self._is_over = True
        if isinstance(error, AttemptFailed):
            error.has_retried = self.count > 1
        self._sink.attempts_failed(error)

    def _may_retry(self, error: ExchangeError, client: Http1Client | ClientStream | None) -> bool:
        if not self._is_replayable or self.count > RETRIES or not isinstance(error, AttemptFailed):
            return False
        if error.is_undelivered:
            return True
        is_stale = client is not None and client.is_reused and not client.has_answered
        return is_stale and self._head.method in _IDEMPOTENT

    def _end(self) -> None:
        self._is_over = True
        self._chunks.clear()
        if self._live is not None:
            self._live.active -= 1
            self._live = None
