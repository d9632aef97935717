"""One request and its response, from the head to the last byte. Read this file first.

    client ──▶ Downstream ──▶ Exchange ──▶ Attempts ──▶ Upstream ──▶ endpoint
           ◀──            ◀──          ◀──────────────

`start` lets `admission.order` apply the policies, and carries out the decision. `Attempts` selects an endpoint and
sends. The response comes back through `response_*`. `_finish` reports the exchange exactly once, however it ends.
Bodies stream in both directions; a slow side pauses the other. Nothing here parses, matches, balances or retries.

Data is pushed from the receiving socket to the sending one, without a task. Only waiting for a policy takes one.
"""

import asyncio
import logging
from time import perf_counter

from policies.attributes import Headers, RequestHead, ResponseHead
from policies.balancing.endpoint import Endpoint
from policies.decimals import decimal
from policies.last_look import Unwritable
from policies.verdict import ResponseFlag
from waypoint.admission.arrival import arrive, new_request_id
from waypoint.admission.decide import UNDECIDED, Decision, denial_of_request, request_trailers, response_trailers
from waypoint.admission.departure import depart
from waypoint.admission.held import Held, Steps, see_through
from waypoint.admission.order import Admission
from waypoint.config.snapshot import Destination, Snapshot
from waypoint.data_path import Connection, DataPath
from waypoint.errors import ExchangeError, InternalFailure, Overloaded, RequestTimeout, UnwritableHead
from waypoint.filters.filter import Answer, Wait
from waypoint.filters.session import sticky
from waypoint.http.events import EMPTY, Body, Downstream
from waypoint.http.grpc import status_of
from waypoint.replies import finish, reply_to
from waypoint.telemetry.record import ExchangeRecord
from waypoint.upstream.affinity import Sticky
from waypoint.upstream.attempts import Attempts
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.events import FLAGS, ClusterEvent

log = logging.getLogger(__name__)

_BODILESS = frozenset({204, 304})  # RFC 9110 section 6.4.1; local responses are never 1xx


class Exchange:
    """Receives the request (`events.RequestSink`) and the response (`attempts.AttemptSink`)."""

    __slots__ = (
        "_admission",
        "_attempts",
        "_body",
        "_connection",
        "_deadline",
        "_downstream",
        "_head",
        "_is_over",
        "_path",
        "_record",
        "_started",
        "_sticky",
    )

    _admission: Admission
    _record: ExchangeRecord

    def __init__(self, connection: Connection, downstream: Downstream, head: RequestHead, body: Body) -> None:
        self._connection = connection
        self._path: DataPath = self._connection.path
        self._downstream = downstream
        self._head = head
        self._body = body
        self._attempts: Attempts | None = None
        self._sticky: Sticky | None = None
        self._deadline: float | None = None  # seconds
        self._started = perf_counter()
        self._is_over = False

    # -- the request -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Admit the request, and start the first attempt."""
        path, connection = self._path, self._connection
        path.exchanges += 1
        snapshot: Snapshot = path.holder.current
        destination: Destination | None = snapshot.destination(connection.authority)
        head, body, protocol = self._head, self._body, self._downstream.protocol
        record = self._record = arrive(connection, head, protocol, snapshot, destination)
        admission = self._admission = Admission()
        if path.exchanges > path.max_exchanges:
            self._reply(Overloaded("max_exchanges" if path.max_exchanges else "memory_limit_bytes"))
            return
        try:
            steps = admission.steps(connection, head, body, protocol, record, snapshot, destination)
            wait = next(steps, None)
            if wait is None:
                self._carry_out()
            else:
                self._hold(steps, wait)
        except Exception as error:
            self._stopped(error)

    def request_body(self, data: bytes) -> None:
        self._record.received(data)
        held = self._admission.held
        if held is not None:
            held.put(data)
        else:
            self._pass_on(data)

    def request_end(self, trailers: Headers) -> None:
        self._record.request_ms = (perf_counter() - self._started) * 1000
        held = self._admission.held
        if held is not None:
            held.end(trailers)
        else:
            self._pass_on_end(trailers)

    def _pass_on(self, data: bytes) -> None:
        if self._attempts is None:
            return
        filtering = self._admission.decision.filtering
        try:
            data = filtering.request_body(data) if filtering is not None else data
        except Exception as error:
            self._stopped(error)
            return
        if data and not self._attempts.send_body(data):
            self._downstream.pause_request()

    def _pass_on_end(self, trailers: Headers) -> None:
        if self._is_over or self._attempts is None:
            return
        if trailers:
            trailers = request_trailers(self._admission.decision, self._admission.destination, self._head, trailers)
        rule, filtering = self._admission.decision.rule, self._admission.decision.filtering
        if self._deadline is None and rule is not None and (seconds := rule.timeouts.request) is not None:
            self._deadline = seconds
            self._path.deadlines.begin(self, seconds)
        try:
            if filtering is not None and (rest := filtering.request_end(trailers)):
                self._attempts.send_body(rest)
            self._attempts.send_end(trailers)
        except Unwritable as error:
            self._give_up(UnwritableHead("request", str(error)))
        except Exception as error:
            self._stopped(error)

    def request_failed(self, error: ExchangeError) -> None:
        self._give_up(error)

    def timed_out(self) -> None:
        self._give_up(RequestTimeout(), is_late=True)

    def policies_changed(self) -> None:
        connection, record = self._connection, self._record
        destination = self._path.holder.current.destination(connection.authority)
        authority, target = record.authority or b"", record.original_target
        if (denial := denial_of_request(destination, connection.peer, record.method, authority, target)) is not None:
            self._give_up(denial)

    def downstream_lost(self) -> None:
        """The client has disconnected: stop working for it."""
        record = self._record
        record.flags += (ResponseFlag.DOWNSTREAM_CONNECTION_TERMINATION,)
        record.detail = "downstream_remote_disconnect"
        self._cut()

    def resume_response(self) -> None:
        if self._attempts is not None:
            self._attempts.resume_response()

    # -- the response ----------------------------------------------------------------------------------------------

    def attempt_began(self, endpoint: Endpoint, head_bytes: int) -> None:
        record = self._record
        record.endpoint = endpoint
        record.request_bytes = head_bytes
        if record.messages is not None:
            self._path.telemetry.count_messages(record, record.messages)

    def event_noted(self, event: ClusterEvent) -> None:
        record = self._record
        if record.cluster is not None:
            self._path.clusters.note(event, record.cluster)
        if event in FLAGS:
            record.flags += (FLAGS[event],)

    def response_informational(self, head: ResponseHead) -> None:
        if self._attempts is not None:
            self._attempts.hold()
        try:
            self._downstream.send_informational(head)
        except Unwritable as error:
            self._give_up(UnwritableHead("response", str(error)))

    def response_head(self, head: ResponseHead, body: Body) -> None:
        record = self._record
        elapsed = record.response_ms = (perf_counter() - self._started) * 1000
        waited = int(elapsed - record.request_ms) if record.request_ms is not None else 0
        record.upstream_service_time_ms = waited
        if record.is_grpc:
            record.grpc_status = status_of(head.headers)
        if self._sticky is not None and record.endpoint is not None:
            self._sticky.mark(head.headers, record.endpoint, record.started_at)
        head.headers.append((b"x-envoy-upstream-service-time", decimal(waited)))
        decision = self._admission.decision
        if decision.filtering is not None:
            body = decision.filtering.response_framing(head, body)
        try:
            self._send_head(head, body, decision, record.endpoint)
        except Exception as error:
            self._refused(error)
        else:
            record.detail = "via_upstream"

    def response_body(self, data: bytes) -> None:
        filtering = self._admission.decision.filtering
        try:
            data = filtering.response_body(data) if filtering is not None else data
        except Exception as error:
            self._stopped(error)
            return
        if not data:
            return
        self._record.sent(data)
        if not self._downstream.send_body(data) and self._attempts is not None:
            self._attempts.pause_response()

    def response_end(self, trailers: Headers) -> None:
        decision = self._admission.decision
        if decision.filtering is not None:
            try:
                rest = decision.filtering.response_end(trailers)
            except Exception as error:
                self._stopped(error)
                return
            if rest:
                self._record.sent(rest)
                self._downstream.send_body(rest)
        if self._attempts is not None:
            self._attempts.finished()
        if trailers:
            self._record.response_trailers = trailers
            if self._record.is_grpc:
                self._record.grpc_status = status_of(trailers)
        self._finish()
        try:
            self._downstream.send_end(response_trailers(decision, trailers) if trailers else trailers)
        except Unwritable as error:
            self._path.telemetry.count_refusal(UnwritableHead("response", str(error)).limit)
            self._downstream.reset()

    def resume_upstream(self) -> None:
        self._downstream.resume_request()

    def attempt_failed(self, error: ExchangeError) -> None:
        """The attempt failed. Before the response, there may be another; after it, the client must see the failure."""
        record = self._record
        if record.status == 0 and self._attempts is not None:
            self._attempts.failed(error)
        elif not self._is_over:
            record.upstream_transport_failure_reason = error.reason
            self._break_off(error)

    def attempts_failed(self, error: ExchangeError, unreached: Endpoint | None = None) -> None:
        if unreached is not None:
            self._record.endpoint, self._record.upstream_protocol = unreached, ""
        self._reply(error)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """Carry out the decision on an admitted request."""
        admission = self._admission
        decision = admission.decision
        if admission.cluster is not None:
            self._forward(admission.cluster)
        elif decision.answer is not None:
            self._answer(decision.answer)
        elif decision.error is not None:
            self._reply(decision.error)

    def _hold(self, steps: Steps, wait: Wait) -> None:
        """Pause the client until a task has admitted the request."""
        held = self._admission.held = Held(self._downstream, self._head, self._body)
        self._downstream.pause_request()
        held.task = self._path.spawn(self._see_through(steps, wait, held))

    async def _see_through(self, steps: Steps, wait: Wait, held: Held) -> None:
        try:
            await see_through(steps, wait, held)
            self._go_on()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(error)  # an awaited operation was cancelled
        except Exception as error:
            self._stopped(error)

    def _go_on(self) -> None:
        """The wait has ended: carry out the decision, with the data that arrived in the meantime."""
        held, self._admission.held = self._admission.held, None
        self._carry_out()
        if self._is_over or held is None:
            return
        self._downstream.resume_request()
        for data in held.arrived:
            self._pass_on(data)
        if held.trailers is not None:
            self._pass_on_end(held.trailers)

    def _failed(self, error: BaseException) -> None:
        """A bug caused an exception: log the trace, and answer, or cut the active response."""
        method, target = self._record.method.decode("latin-1"), self._record.original_target.decode("latin-1")
        log.error("internal error during %s %s", method, target, exc_info=error)
        try:
            self._give_up(InternalFailure(f"{type(error).__name__}: {error}"))
        except Exception:  # the same error may prevent the response
            log.exception("no response can be sent either; the connection or stream is reset")
            self._cut()
            self._downstream.reset()

    def _forward(self, cluster: Cluster) -> None:
        """Send the head to the cluster, with the headers that every application gets."""
        path, head, record = self._path, self._head, self._record
        if cluster.branches is not None:
            registry = path.holder.current.registry
            cluster = cluster.branches.at(self._connection.authority[0], head.authority, registry)
        record.cluster, record.service = cluster.config.name, cluster.config.service
        decision, peer, body = self._admission.decision, self._connection.peer, self._body
        rule, filtering = decision.rule, decision.filtering
        assert rule is not None
        retries, deadline = depart(head, rule, record.is_grpc)
        if deadline is not None:
            self._deadline = deadline
            path.deadlines.begin(self, deadline)
        if filtering is not None:
            body = filtering.forwarded()
            self._sticky = filtering.picker(cluster)
        if self._sticky is None:
            self._sticky = sticky(cluster, rule, head, peer, record.started_at, new_request_id)
        is_http2 = cluster.config.speaks_http2(self._downstream.protocol)
        record.upstream_protocol = "HTTP/2" if is_http2 else "HTTP/1.1"
        its = path.originator, path.spawn, path.upstream, retries, self._sticky, record.span
        self._attempts = Attempts(self, cluster, head, body, is_http2, *its)
        self._attempts.start()

    def _stopped(self, error: Exception) -> None:
        """A filter rejects the request, or fails."""
        if isinstance(error, ExchangeError):
            self._give_up(error)
        else:
            self._failed(error)

    def _refused(self, error: Exception) -> None:
        """A response cannot be sent: its head is invalid, or a filter rejects it or fails.

        The response that replaces it bypasses the filters.
        """
        if self._admission.decision.filtering is not None:
            self._admission.decision.filtering.is_mute = True
        self._stopped(UnwritableHead("response", str(error)) if isinstance(error, Unwritable) else error)

    def _give_up(self, error: ExchangeError, *, is_late: bool = False) -> None:
        """Answer instead of the endpoint, or cut an active response; only once."""
        if self._is_over:
            return
        if self._record.status == 0:
            if self._attempts is not None:
                self._attempts.abort(is_late=is_late)
            self._reply(error)
        else:
            self._break_off(error)

    def _break_off(self, error: ExchangeError) -> None:
        """End an active response before it is complete."""
        record = self._record
        record.flags += (error.flag,) if error.flag else ()
        record.detail = error.detail.replace("before_response_started", "after_response_started")
        self._path.telemetry.count_refusal(error.limit)
        self._cut()
        self._downstream.reset()

    def _reply(self, error: ExchangeError) -> None:
        """Answer instead of the endpoint."""
        self._path.telemetry.count_refusal(error.limit)
        head, body = reply_to(error, self._record)
        # An edit of the rule may have made the head invalid, so this response is sent without edits.
        self._send(head, body, UNDECIDED if isinstance(error, UnwritableHead) else self._admission.decision)

    def _answer(self, answer: Answer) -> None:
        """Send a response that the route itself defines."""
        self._record.detail = answer.detail
        self._send(ResponseHead(answer.status, answer.headers), answer.body, self._admission.decision)

    def _send(self, head: ResponseHead, body: bytes, decision: Decision) -> None:
        """Send a complete local response."""
        record = self._record
        has_none = head.status in _BODILESS
        try:
            if body and decision.filtering is not None:
                body = decision.filtering.response_body(body) + decision.filtering.response_end([])
            self._send_head(head, EMPTY if has_none else Body(len(body)), decision)
        except Exception as error:
            self._refused(error)
            return
        if body and not has_none and self._head.method != b"HEAD":
            record.bytes_sent = len(body)
            self._downstream.send_body(body)
        self._finish()
        self._downstream.send_end([])

    def _send_head(self, head: ResponseHead, body: Body, decision: Decision, endpoint: Endpoint | None = None) -> None:
        """The last step of every response head. Raises Unwritable or an exception of a filter; then nothing was
        sent."""
        if not 200 <= head.status <= 599 and not body.is_opaque:
            raise Unwritable(f"{head.status} is not a valid response status")
        finish(head, decision, endpoint)
        record = self._record
        record.response_bytes = self._downstream.send_head(head, body)
        record.status, record.response_headers = head.status, head.headers

    def _cut(self) -> None:
        """End the exchange before its response is complete."""
        if self._attempts is not None:
            self._attempts.abort()
        self._finish()

    def _finish(self) -> None:
        """Report the exchange, exactly once."""
        if self._is_over:
            return
        self._is_over = True
        path, record = self._path, self._record
        path.exchanges -= 1
        if self._admission.held is not None:
            self._admission.held.close()
        if self._attempts is not None:
            record.attempts = self._attempts.count or 1
        self._attempts = None  # breaks a reference cycle that only the garbage collector could free
        if self._deadline is not None:
            path.deadlines.end(self, self._deadline)
        record.duration_ms = (perf_counter() - self._started) * 1000
        record.request_bytes += record.bytes_received
        record.response_bytes += record.bytes_sent
        path.telemetry.record(record)
        if self._admission.decision.filtering is not None:
            self._admission.decision.filtering.end(record)
