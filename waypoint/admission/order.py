"""The order in which a request meets the policies: `Admission.steps`, read from top to bottom.

    external authorization by policies → tokens → decide → limits → the route's external authorization → delay → edits

Mirrors and the attempt at an endpoint come next: the exchange carries them out, with the clusters that are found here.

`steps` is a generator. It yields only what a request has to wait for: a call that has not been made yet. A request that
waits for nothing reaches its end in one `next()`, without a task. For every other request, one task makes the calls and
sends in what they return (`held.see_through`). A step that fails ends the generator with its exception; the exchange
answers it.

A request goes by the configuration that is in force when it is decided. A wait before that begins everything anew, by
what is in force after the wait; only the authorizers that have allowed the request are not asked again. After that no
configuration is looked at: destination, rule and clusters stay those of the decision, whatever is swapped in while the
request waits. What outlives configurations (endpoints, buckets, keys) is used as it is found.
"""

import asyncio
from functools import partial
from random import random
from typing import TYPE_CHECKING

from policies.attributes import RequestHead
from policies.chance import Chance
from policies.claims import Claims
from policies.external_auth import Allowed, Question
from policies.jwt import challenge
from policies.rate_limit import Measured, RateLimits
from policies.verdict import ResponseFlag
from waypoint.admission.decide import UNDECIDED, Decision, decide, edit_request, first_question
from waypoint.admission.held import Held, Steps, Wait
from waypoint.authentication.tokens import Refusal
from waypoint.config.snapshot import Destination, Snapshot
from waypoint.data_path import Connection, DataPath
from waypoint.errors import ExchangeError, NotAuthenticated
from waypoint.filters.external_auth import Asked
from waypoint.telemetry.exchanges import ExchangeRecord
from waypoint.telemetry.recorder import Recorder, Taken
from waypoint.upstream.cluster import Cluster

if TYPE_CHECKING:
    from waypoint.filters.rate_limit_service import Asked as Counted

_MAX_WAITS = 2  # for keys: one fetch may have been under way already when they changed


class Admission:
    """What is known of a request by now. At the end of `steps` its `decision` has a cluster, an answer or an error.

    `destination`, `cluster` and `mirrors` are those of the decision: the exchange looks nothing up by name. `held` is
    where the request waits, while it does.
    """

    __slots__ = ("cluster", "decision", "destination", "held", "mirrors")

    def __init__(self) -> None:
        self.decision: Decision = UNDECIDED
        self.destination: Destination | None = None
        self.cluster: Cluster | None = None
        self.mirrors: tuple[Cluster, ...] = ()
        self.held: Held | None = None

    def steps(
        self,
        connection: Connection,
        head: RequestHead,
        record: ExchangeRecord,
        snapshot: Snapshot,
        destination: Destination | None,
        taken: Taken | None,
    ) -> Steps:
        """`snapshot` is the one in force, and has the destination; `taken` is what is to be recorded of the head."""
        path, peer = connection.path, connection.peer
        granted: tuple[str, ...] = ()
        allowed: tuple[Allowed, ...] = ()
        found: Claims | Refusal | None = None
        waits = _MAX_WAITS
        asked: Asked

        while destination is not None:
            # External authorization by policies: of action CUSTOM, one authorizer after the other.
            question = first_question(destination, peer, head, granted) if destination.authorizers is not None else None
            if question is not None:
                asked = yield partial(self._ask, question, _cluster_of(question, path))
                if asked.allowed is None:
                    self.decision = Decision(error=asked.error)
                    return
                asked.allowed.apply_to(head)
                granted, allowed = (*granted, question.authorizer.name), (*allowed, asked.allowed)
            # Tokens.
            elif destination.authentication is None:
                break
            else:
                found = path.tokens.authenticate(destination.authentication, head, record.started_at)
                if not isinstance(found, Refusal) or found.fetching is None or not waits:
                    break
                waits -= 1
                yield found.fetching.wait
                found = None
            snapshot = path.holder.current
            destination = snapshot.destination(connection.authority)

        # Decide.
        if isinstance(found, Refusal):
            decision = Decision(error=NotAuthenticated(found.failure, challenge(head)))
        else:
            decision = decide(
                destination, peer, head, _roll, record.started_at, path.live, claims=found, granted=granted
            )
        decision.allowed = allowed
        self.decision, self.destination = decision, destination
        record.verdict = decision.verdict
        if decision.rule is not None:
            record.route_name = decision.rule.name
        if taken is not None and path.recorder is not None:
            _write(path.recorder, taken, connection, record, decision, snapshot.version)
        if decision.cluster is not None:
            self.cluster = path.clusters[decision.cluster]
        if decision.mirrors:
            self.mirrors = tuple(path.clusters[mirror.cluster] for mirror in decision.mirrors)
        question = decision.question
        authorizer = _cluster_of(question, path) if question is not None else None

        # Limits: those that a service counts. Buckets of our own are part of the decision.
        if decision.measured:
            assert decision.rule is not None
            assert decision.rule.limits is not None
            counted: Counted = yield _counting(path, decision.rule.limits, decision.measured)
            decision.quota = counted.quota
            head.headers += counted.request_headers
            if counted.error is not None:
                self._refuse(counted.error)
                return

        # The route's external authorization.
        if question is not None:
            asked = yield partial(self._ask, question, authorizer)
            if asked.allowed is None:
                self._refuse(asked.error)
                return
            asked.allowed.apply_to(head)
            decision.allowed = (*allowed, asked.allowed)

        # Delay: an answer of our own waits, too.
        if decision.delay_seconds:
            record.flags += (ResponseFlag.DELAY_INJECTED,)
            yield partial(asyncio.sleep, decision.delay_seconds)

        # Edits, also of what those who were asked have added.
        if self.cluster is not None:
            edit_request(decision, head)

    async def _ask(self, question: Question, cluster: Cluster | None) -> Asked:
        assert self.held is not None
        return await self.held.ask(question, cluster)

    def _refuse(self, error: ExchangeError | None) -> None:
        """Somebody who was asked about what was decided says no."""
        decision = self.decision
        decision.cluster, decision.answer, decision.error = None, None, error
        self.cluster = None


def _roll(chance: Chance) -> float:
    return random()


def _cluster_of(question: Question, path: DataPath) -> Cluster | None:
    """None for an authorizer that leads nowhere."""
    name = question.authorizer.cluster
    return path.clusters[name] if name is not None else None


def _counting(path: DataPath, limits: RateLimits, measured: Measured) -> Wait:
    """A question to the service that counts for all replicas, at the cluster of now."""
    from waypoint.filters import rate_limit_service  # brings protobuf along, which few need

    service = limits.service
    assert service is not None
    cluster = path.clusters[service.cluster] if service.cluster is not None else None

    async def ask() -> "Counted":
        counted = await rate_limit_service.ask(path, cluster, path.live.breaker(service), limits, measured)
        path.live.note_asked(service, counted.outcome)
        return counted

    return ask


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
