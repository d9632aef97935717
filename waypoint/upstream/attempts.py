"""Attempts of one exchange: select an endpoint, connect, send, and retry according to the retry policy.

`retrying` decides about retries. Most policies do not look at responses: the response then goes directly to the
exchange. Otherwise `watch` examines it, and the exchange never sees a response that is retried.

The request's body is kept for retries up to a limit. Beyond it, the body cannot be sent again, and there is no further
attempt. Between two attempts the client is paused at the limit. Envoy does not pause, and must answer 507 there.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Container
from random import random
from typing import TYPE_CHECKING, Protocol

from policies.attributes import Headers, RequestHead, ResponseHead
from policies.balancing.endpoint import Endpoint
from policies.last_look import Unwritable
from policies.outcome import RESPONSE, Ending, Outcome
from policies.retry import DEFAULT_RETRIES, IDEMPOTENT, RetryPolicy
from waypoint.errors import (
    AttemptFailed,
    AttemptTimeout,
    ExchangeError,
    InternalFailure,
    NoHealthyEndpoint,
    UnwritableHead,
    UpstreamConnectFailed,
    UpstreamOverflow,
)
from waypoint.http.client import Http1Client
from waypoint.http.events import Body, ResponseSink
from waypoint.http.h2_client import ClientStream
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.connect import open_connection, open_stream
from waypoint.upstream.connections import Spawn
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.events import ClusterEvent
from waypoint.upstream.originate import Originator
from waypoint.upstream.retrying import Retrying
from waypoint.upstream.settings import DnsSettings, UpstreamSettings
from waypoint.upstream.watch import Discarded, Watch

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Span

log = logging.getLogger(__name__)


_DNS_GRACE_SECONDS = 1.0  # added to the lookup timeout, so that a failure is reported first


class AttemptSink(ResponseSink, Protocol):
    """The exchange, which receives the response, or the error if no attempt is left."""

    def attempt_began(self, endpoint: Endpoint, head_bytes: int) -> None: ...

    def event_noted(self, event: ClusterEvent) -> None: ...

    def attempts_failed(self, error: ExchangeError, unreached: Endpoint | None = None) -> None:
        """`unreached` is the endpoint to which nothing was sent, if the last attempt had one."""


class Picker(Protocol):
    def pick(self, roll: Callable[[], float], avoid: Container[Endpoint]) -> LiveEndpoint | None: ...


class Attempts:
    """`is_http2` is the endpoint's protocol. `picker` replaces the cluster's choice of an endpoint. `span` is that of a
    traced request. Each attempt gets a span below it, which the endpoint's own span joins."""

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
        "_is_watched",
        "_judges",
        "_live",
        "_originator",
        "_picker",
        "_policy",
        "_retrying",
        "_settings",
        "_sink",
        "_size",
        "_span",
        "_spawn",
        "_timer",
        "_trailers",
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
        settings: UpstreamSettings,
        policy: RetryPolicy = DEFAULT_RETRIES,
        picker: Picker | None = None,
        span: "Span | None" = None,
    ) -> None:
        self.count = 0
        self._span = span
        self._policy = policy
        self._picker = picker
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
        self._retrying: Retrying | None = None
        self._chunks: list[bytes] = []  # the body so far, while a retry may need it
        self._size = 0
        self._trailers: Headers | None = None  # None until the request is complete
        self._is_replayable = True
        self._judges = self._cluster.config.outlier is not None
        its = self._policy
        looks = its.looks_at_responses or its.per_try_timeout is not None or self._judges
        self._is_watched = looks or span is not None
        self._timer: asyncio.TimerHandle | None = None  # the delay before an attempt, then the attempt's time limit
        self._is_over = False

    # -- the request -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start an attempt: at once on an idle connection, else when a connection is established."""
        try:
            self._begin()
        except Exception as error:
            self._broke(error)

    def _begin(self) -> None:
        avoid = self._retrying.tried if self._retrying is not None else ()
        picker, cluster = self._picker, self._cluster
        live: LiveEndpoint | None = picker.pick(random, avoid) if picker is not None else cluster.pick(random, avoid)
        circuit = self._cluster.circuit
        if live is None and self._cluster.is_awaited and circuit.take_pending():
            self._connecting = self._spawn(self._await_names())
            return
        if live is None:
            self._end()
            self._sink.attempts_failed(NoHealthyEndpoint())
            return
        if circuit.is_full:
            self._overflow(ClusterEvent.REQUEST_OVERFLOW)
            return
        self.count += 1
        if self.count == 1 and self._cluster.counts_requests:
            self._cluster.retries.request(time.monotonic())
        self._live = live
        live.active += 1
        if self._span is not None:
            self._span.begin_attempt(self.count, live.endpoint, self._cluster.config.name)
        if self._is_watched:
            self._limit()
        client = live.take(self._is_http2)
        if client is not None:
            self._send(client)
        elif circuit.take_pending():
            self._connecting = self._spawn(self._connect(live))
        else:
            self._overflow(ClusterEvent.REQUEST_OVERFLOW)

    def send_body(self, data: bytes) -> bool:
        """Forward a part of the body. Returns False if no more may be sent until `resume_upstream`."""
        client = self._client
        if self._is_replayable:
            self._chunks.append(data)
            self._size += len(data)
            if self._size > self._settings.retry_buffer_bytes and client is not None:
                self.hold()
        if client is not None:
            return client.send_body(data)
        return self._size <= self._settings.retry_buffer_bytes

    def send_end(self, trailers: Headers) -> None:
        self._trailers = trailers
        if self._is_watched:
            self._limit()
        if self._client is not None:
            self._client.send_end(trailers)

    def hold(self) -> None:
        """Allow no further attempt: the client has seen a part of the response, or the body is too large to keep."""
        self._is_replayable = False
        self._chunks.clear()

    def abort(self, *, is_late: bool = False) -> None:
        """The response is no longer needed: release connection, tunnel and endpoint. `is_late`: because of a
        timeout."""
        if not self._is_over:
            if is_late and self._judges and self._live is not None:
                self._cluster.record(self._live, Outcome(Ending.TIMEOUT))
            self._break_off()
            self._end()

    def finished(self) -> None:
        """The response is complete."""
        if self._retrying is not None:
            self._retrying.finished()
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
        seconds, originator = live.pool.connect_seconds, self._originator
        if not self._is_http2 and not live.may_connect:
            self._sink.event_noted(ClusterEvent.CONNECTION_OVERFLOW)
        try:
            client = await (
                open_stream(live, originator, seconds, self._spawn)
                if self._is_http2
                else open_connection(live, originator, seconds)
            )
            self._connected()
            self._send(client)
        except ExchangeError as error:
            self._connected()
            self.failed(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._connected()
            self.failed(UpstreamConnectFailed("the connection attempt was cancelled"))
        except Exception as error:
            self._broke(error)

    async def _await_names(self) -> None:
        """Start when the endpoints' names have been resolved, or when that has taken too long."""
        try:
            names = self._originator.settings.of(DnsSettings)
            await self._cluster.first_answer(names.dns_timeout_seconds + _DNS_GRACE_SECONDS)
            self._connected()
            if self._cluster.is_awaited:
                self._end()
                self._sink.attempts_failed(NoHealthyEndpoint())
            else:
                self._begin()
        except Exception as error:
            self._broke(error)

    def _connected(self) -> None:
        """Waiting for a connection has ended."""
        if self._connecting is not None:
            self._connecting = None
            self._cluster.circuit.end_pending()

    def _send(self, client: Http1Client | ClientStream) -> None:
        assert self._live is not None
        if not self._cluster.circuit.take_request():  # other requests took the room while this one waited
            if isinstance(client, Http1Client):
                self._live.give_back(client)
            self._overflow(ClusterEvent.REQUEST_OVERFLOW)
            return
        self._client = client
        head = self._head
        if self.count > 1:
            head.headers[-1] = (b"x-envoy-attempt-count", b"%d" % self.count)
        if self._span is not None:
            self._span.inject_attempt(head.headers)
        sink: ResponseSink = Watch(self, self._sink) if self._is_watched else self._sink
        try:
            size = client.send_head(head, self._body, sink)
        except Unwritable as error:
            if isinstance(client, Http1Client):
                self._live.give_back(client)
            self.failed(UnwritableHead("request", str(error)))
            return
        self._sink.attempt_began(self._live.endpoint, size)
        takes_more = True
        for chunk in self._chunks:
            takes_more = client.send_body(chunk)
        if self._size > self._settings.retry_buffer_bytes:
            self.hold()
            if takes_more:
                self._sink.resume_upstream()
        elif takes_more and self.count > 1:  # the previous endpoint may have had no room
            self._sink.resume_upstream()
        if self._trailers is not None:
            client.send_end(self._trailers)

    def _limit(self) -> None:
        """Start the attempt's time limit once an attempt runs and the request is complete."""
        if self._trailers is not None and self._live is not None and self._policy.per_try_timeout is not None:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_later(self._policy.per_try_timeout, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._sink.event_noted(ClusterEvent.PER_TRY_TIMEOUT)
        self._break_off()
        self.failed(AttemptTimeout())

    # -- another one, or the end -----------------------------------------------------------------------------------

    def failed(self, error: ExchangeError) -> None:
        """The current attempt brought no response: retry, or report to the exchange."""
        if self._is_over:
            return
        client = self._client
        if self._span is not None:
            self._span.attempt_failed(error.detail)
        if isinstance(error, AttemptFailed):
            is_stale = (
                error.ending is Ending.RESET and client is not None and client.is_reused and not client.has_answered
            )
            outcome = Outcome(error.ending, is_stale=is_stale)
            if self._judges and self._live is not None:
                self._cluster.record(self._live, outcome)
            if self._tries_again(outcome):
                return
            error.has_retried = self.count > 1
        unreached = self._live.endpoint if self._live is not None and client is None else None
        self._end()
        self._sink.attempts_failed(error, unreached)

    def answered(self, head: ResponseHead, body: Body) -> Discarded | None:
        """Examine the response of a watched attempt. Returns None to show it, else a sink for the rest of it."""
        self._stop_timer()
        client = self._client
        assert client is not None
        if self._span is not None:
            self._span.attempt_answered(head.status)
        outcome = Outcome(RESPONSE, head.status, head.headers)
        if self._judges and self._live is not None:
            self._cluster.record(self._live, outcome)
        if self._tries_again(outcome):
            return Discarded(client, body, is_request_complete=self._trailers is not None)
        self._is_watched = False
        client.show(self._sink)
        return None

    def _tries_again(self, outcome: Outcome) -> bool:
        """Replace this attempt by a retry, if the policy asks for it and nothing prevents it."""
        policy, live = self._policy, self._live
        if live is None or not self._is_replayable:
            return False
        if not policy.asks_for(outcome, self._head.method in IDEMPOTENT):
            return False
        if self._retrying is None:
            self._retrying = Retrying(policy, self._cluster, self._sink.event_noted)
        pause = self._retrying.pause(self.count, outcome, live.endpoint)
        if pause is None:
            return False
        self._leave()
        self._timer = asyncio.get_running_loop().call_later(pause, self.start)
        return True

    def _broke(self, error: Exception) -> None:
        """A bug caused an exception: log the trace and tell the exchange, which would wait forever otherwise."""
        log.error("internal error during an attempt at %s", self._cluster.config.name, exc_info=error)
        if not self._is_over:
            self._break_off()
            self._end()
        self._sink.attempts_failed(InternalFailure(f"{type(error).__name__}: {error}"))

    def _overflow(self, event: ClusterEvent) -> None:
        self._sink.event_noted(event)
        self._end()
        self._sink.attempts_failed(UpstreamOverflow(has_retried=self.count > 1))

    def _break_off(self) -> None:
        connecting = self._connecting
        if connecting is not None:
            self._connected()
            connecting.cancel()
        if self._client is not None:
            self._client.abort()

    def _leave(self) -> None:
        """End the current attempt, if there is one."""
        if self._span is not None:
            self._span.end_attempt()
        if self._client is not None:
            self._cluster.circuit.end_request()
        live, self._live, self._client = self._live, None, None
        if live is not None:
            live.active -= 1
        if self._timer is not None:
            self._stop_timer()

    def _end(self) -> None:
        self._is_over = True
        self._chunks.clear()
        self._leave()
        if self._retrying is not None:
            self._retrying.release()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
