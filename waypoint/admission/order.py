"""The order in which policies apply to a request: read `Admission.steps` from top to bottom.

    external authorization by policies → tokens → decide → the rule's filters → edits

The order of filters is `policies.filters.ORDER`: limits → the route's external authorization → faults → … . `decide`
queries all of them. What they must do before the request continues is done afterwards in the same order: take from
buckets, wait for authorizers, delay. The exchange later passes bodies and the response through them.

`steps` is a generator. It yields only what a request must wait for: a call that has not been made yet. A request that
waits for nothing finishes in one `next()`, without a task. For other requests, one task makes the calls
(`held.see_through`). If a step fails, its exception ends the generator, and the exchange answers.

A request uses the configuration that is live when it is decided. After a wait before that, everything starts again with
the configuration that is then live; only authorizers that have allowed the request are not asked again. After the
decision, no configuration is read: destination, rule and clusters are those of the decision, whatever goes live in the
meantime. State that outlives configurations (endpoints, buckets, keys) is used as it is.
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
from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.recorder import Recorder, Taken
from waypoint.upstream.cluster import Cluster

_MAX_WAITS = 2  # waits for keys: a fetch may have been active already when they changed


class Admission:
    """The state of admission. After `steps`, `decision` has a cluster, an answer or an error.

    `destination` and `cluster` are those of the decision, so the exchange looks up nothing by name. `held` is set while
    the request waits.
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
        """`snapshot` is live and has the destination. `taken` is the part of the head to record."""
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
                    filtering = Filtering(path.filters.by_type, destination, peer, head, _roll, record.started_at, body)
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

        self._decide(connection, destination, head, body, record, filtering, found)
        if taken is not None and path.recorder is not None:
            _write(path.recorder, taken, connection, record, self.decision, snapshot.version)

        # The filters' acts, in their order. An answer of our own waits for them, too.
        its = self.decision.filtering
        if its is not None:
            if its is not filtering:
                _complete(its, connection, record, protocol)
            its.cluster = self.cluster
            while (its.acts or its.wanted) and its.ending is None:
                wait = _next_wait(its, path)
                if wait is not None:
                    yield wait
            if its.ending is not None:
                self._refuse(its.ending)
                return

        # Edits, including those of what authorizers have added.
        if self.cluster is not None:
            edit_request(self.decision, head)

    def _decide(
        self,
        connection: Connection,
        destination: Destination | None,
        head: RequestHead,
        body: Body,
        record: ExchangeRecord,
        filtering: Filtering | None,
        found: Claims | Refusal | None,
    ) -> None:
        """Decide. `found` are the token's claims, if there is one."""
        path: DataPath = connection.path
        if isinstance(found, Refusal):
            error = NotAuthenticated(found.failure, challenge(head))
            self.decision = Decision(error=error, filtering=filtering)
        else:
            granted = filtering.granted if filtering is not None else ()
            rules = connection.rules(destination) if destination is not None else None
            self.decision = decide(
                destination,
                connection.peer,
                head,
                _roll,
                record.started_at,
                path.filters,
                found,
                granted,
                body,
                filtering,
                rules,
            )
        decision = self.decision
        self.destination = destination
        record.verdict = decision.verdict
        if decision.rule is not None:
            record.route_name = decision.rule.name
        if decision.cluster is not None:
            self.cluster = path.clusters.by_name[decision.cluster]

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
    """Add what filters need to act."""
    filtering.authority = connection.authority
    filtering.record = record
    filtering.protocol = protocol


def _next_wait(filtering: Filtering, path: DataPath) -> Wait | None:
    """Let filters act until one must wait, and return that wait. None if all have acted, or one has answered."""
    if filtering.wanted:
        found = {name: path.clusters.by_name[name] for name in filtering.wanted}
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
    """Wait until other keys may be available."""
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
