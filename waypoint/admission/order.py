"""The order in which a request meets the policies: `Admission.steps`, read from top to bottom.

    external authorization by policies → tokens → decide → the rule's filters → edits

The filters have an order of their own, `policies.filters.ORDER`: limits → the route's external authorization → faults
→ CORS → session → mirrors. `decide` asks all of them. Their acts follow in the same order: take from buckets, wait for
authorizers, delay. The exchange then passes bodies and the response through their parts.

`steps` is a generator. It yields only what a request has to wait for: a call that has not been made yet. A request that
waits for nothing reaches its end in one `next()`, without a task. For every other request, one task makes the calls
(`held.see_through`). A step that fails ends the generator with its exception; the exchange answers it.

A request goes by the configuration that is in force when it is decided. A wait before that begins everything anew, by
what is in force after the wait; only the authorizers that have allowed the request are not asked again. After that no
configuration is looked at: destination, rule and clusters stay those of the decision, whatever is swapped in while the
request waits. What outlives configurations (endpoints, buckets, keys) is used as it is found.
"""

from functools import partial
from random import random

from policies.attributes import RequestHead
from policies.claims import Claims
from policies.jwt import challenge
from waypoint.admission.decide import UNDECIDED, Decision, decide, edit_request
from waypoint.admission.held import Held, Steps
from waypoint.authentication.tokens import Refusal
from waypoint.config.snapshot import Destination, Snapshot
from waypoint.data_path import Connection, DataPath
from waypoint.errors import ExchangeError, NotAuthenticated
from waypoint.filters.filter import Answer, Filtering, Wait, Waiting
from waypoint.http.events import Body
from waypoint.telemetry.exchanges import ExchangeRecord
from waypoint.telemetry.recorder import Recorder, Taken
from waypoint.upstream.cluster import Cluster

_MAX_WAITS = 2  # for keys: one fetch may have been under way already when they changed


class Admission:
    """What is known of a request by now. At the end of `steps` its `decision` has a cluster, an answer or an error.

    `destination` and `cluster` are those of the decision: the exchange looks nothing up by name. `held` is where the
    request waits, while it does.
    """

    __slots__ = ("cluster", "decision", "destination", "held")

    def __init__(self) -> None:
        self.decision: Decision = UNDECIDED
        self.destination: Destination | None = None
        self.cluster: Cluster | None = None
        self.held: Held | None = None

    def steps(
        self,
        connection: Connection,
        head: RequestHead,
        body: Body,
        protocol: str,
        record: ExchangeRecord,
        snapshot: Snapshot,
        destination: Destination | None,
    ) -> Steps:
        """`snapshot` is the one in force, and has the destination."""
        path, peer = connection.path, connection.peer
        taken = _taken(path.recorder, head, destination) if path.recorder is not None else None
        filtering: Filtering | None = None
        found: Claims | Refusal | None = None
        waits = _MAX_WAITS

        while destination is not None:
            wait: Wait | None = None
            # External authorization by policies: of action CUSTOM, one authorizer after the other.
            if destination.policies:
                if filtering is None:
                    filtering = Filtering(path.live.by_type, destination, peer, head, _roll, record.started_at, body)
                    _complete(filtering, connection, record, protocol)
                    self.decision = Decision(filtering=filtering)
                filtering.destination = destination
                filtering.run(destination.policies)
                wait = _next_wait(filtering, path)
                if wait is not None:
                    yield wait
                if filtering.ending is not None:
                    self._refuse(filtering.ending)
                    return
            # Tokens.
            if wait is None:
                if destination.authentication is None:
                    break
                found = path.tokens.authenticate(destination.authentication, head, record.started_at)
                if not isinstance(found, Refusal) or found.fetching is None or not waits:
                    break
                waits -= 1
                yield partial(_fetched, found)
                found = None
            snapshot = path.holder.current
            destination = snapshot.destination(connection.authority)

        # Decide.
        if isinstance(found, Refusal):
            error = NotAuthenticated(found.failure, challenge(head))
            decision = Decision(error=error, filtering=filtering)
        else:
            granted = filtering.granted if filtering is not None else ()
            now = record.started_at
            decision = decide(destination, peer, head, _roll, now, path.live, found, granted, body, filtering)
        self.decision, self.destination = decision, destination
        record.verdict = decision.verdict
        if decision.rule is not None:
            record.route_name = decision.rule.name
        if taken is not None and path.recorder is not None:
            _write(path.recorder, taken, connection, record, decision, snapshot.version)
        if decision.cluster is not None:
            self.cluster = path.clusters[decision.cluster]

        # The filters' acts, in their order. An answer of our own waits for them, too.
        if decision.filtering is not None:
            its = decision.filtering
            if its is not filtering:
                _complete(its, connection, record, protocol)
            its.cluster = self.cluster
            while its.ending is None and (wait := _next_wait(its, path)) is not None:
                yield wait
            if its.ending is not None:
                self._refuse(its.ending)
                return

        # Edits, also of what those who were asked have added.
        if self.cluster is not None:
            edit_request(decision, head)

    def _refuse(self, ending: Answer | ExchangeError) -> None:
        """Replace the decision by a filter's answer."""
        self.decision.end(ending)
        self.cluster = None
        if self.decision.filtering is not None:
            self.decision.filtering.cluster = None
            self.decision.filtering.acts = ()


def _taken(recorder: Recorder, head: RequestHead, destination: Destination | None) -> Taken | None:
    """The head to record, as the client sent it."""
    authentication = destination.authentication if destination is not None else None
    return recorder.take(head, authentication.secret_names if authentication is not None else frozenset())


def _roll(chance: str) -> float:
    return random()


def _complete(filtering: Filtering, connection: Connection, record: ExchangeRecord, protocol: str) -> None:
    """Set what acts and parts need."""
    filtering.authority = connection.authority
    filtering.record = record
    filtering.protocol = protocol


def _next_wait(filtering: Filtering, path: DataPath) -> Wait | None:
    """Run the acts, up to one that has to wait. None: all have run, or one has answered."""
    if filtering.wanted:
        found = {name: path.clusters[name] for name in filtering.wanted}
        filtering.clusters = {**filtering.clusters, **found}
        filtering.wanted = ()
    acts = filtering.acts
    for done, act in enumerate(acts, start=1):
        wait = act()
        if wait is not None:
            filtering.acts = acts[done:]
            return wait
        if filtering.ending is not None:
            break
    filtering.acts = ()  # an act refers to the request, and the request to its acts
    return None


async def _fetched(refusal: Refusal, waiting: Waiting) -> None:
    """Wait until other keys may be there."""
    assert refusal.fetching is not None
    await refusal.fetching.wait()


def _write(
    recorder: Recorder,
    taken: Taken,
    connection: Connection,
    record: ExchangeRecord,
    decision: Decision,
    version: str,
) -> None:
    decided = record.route_name, decision.cluster, decision.status
    service, now = record.service.hostname, record.started_at
    recorder.write(taken, now, connection.authority, service, connection.peer, decided, version)
