"""A destination's live state: endpoints, active requests, and which endpoints are available.

The state outlives snapshots: `reconcile` applies a new configuration and keeps the state of remaining endpoints. The
configuration never depends on this state.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import replace
from random import random

from policies import outlier
from policies.balancing.endpoint import Endpoint
from policies.balancing.locality import NEAREST, Group, Rank, loads
from policies.circuit import Circuit
from policies.outcome import Outcome
from policies.outlier import Health
from policies.retry_budget import Spending
from policies.session import endpoint_mark
from policies.shared_outliers import SharedHealth, SharedOutliers
from waypoint.config.snapshot import ClusterConfig
from waypoint.replica import Replica
from waypoint.upstream.balancer import Balancer, Ranked, balancer, lacking
from waypoint.upstream.branches import Branches
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.events import ClusterEvent, Note
from waypoint.upstream.hash_tables import Shape, Table, build_all

log = logging.getLogger(__name__)

_MAX_SCOPES = 64  # number of cached session tables (one per rule); all are rebuilt when it is exceeded
_FULL_WEIGHT = 100  # scaled weight of an endpoint with weight 1, so that its shares are whole numbers


class Cluster:
    """One live destination. `note` receives its events.

    `lacks` receives the cluster when it needs new hash tables: build all that are `lacking()`, not on the event loop,
    and `use` them. By default they are built at once.

    `answered` is set when the endpoints' names have been resolved once, successfully or not. A destination without own
    endpoints has `branches`, and is their `trunk`; branches count against its limits. With `replica`, all workers judge
    the endpoints together.
    """

    __slots__ = (
        "_balancer",
        "_balancers",
        "_clock",
        "_lacks",
        "_marked",
        "_next_sweep",
        "_note",
        "_replica",
        "_resolved",
        "_shared",
        "_unreachable",
        "answered",
        "available",
        "branches",
        "circuit",
        "config",
        "counts_requests",
        "endpoints",
        "retries",
    )

    def __init__(
        self,
        config: ClusterConfig,
        note: Note = lambda event, name: None,
        clock: Callable[[], float] = time.monotonic,
        trunk: "Cluster | None" = None,
        lacks: "Callable[[Cluster], None] | None" = None,
        replica: Replica | None = None,
    ) -> None:
        self.config = config
        self.circuit: Circuit = trunk.circuit if trunk is not None else Circuit(config.circuit)
        self.endpoints: list[LiveEndpoint] = []
        self.available: list[LiveEndpoint] = []
        self.retries: Spending = trunk.retries if trunk is not None else Spending(config.retry_budget)
        self.counts_requests = self.retries.counts_requests
        self.answered: asyncio.Event | None = None
        self.branches: Branches[Cluster] | None = None
        self._resolved: tuple[Endpoint, ...] = ()
        self._marked: dict[str, dict[bytes, LiveEndpoint]] = {}
        self._balancer: Balancer | None = None
        self._balancers: dict[Rank, Balancer] = {}
        self._lacks = lacks if lacks is not None else _build_at_once
        self._note = note
        self._clock = clock
        self._next_sweep = 0.0
        self._replica = replica
        self._shared: SharedOutliers | None = None
        self._unreachable: set[LiveEndpoint] = set()
        self._follow()

    def reconcile(self, config: ClusterConfig) -> None:
        """Apply a new configuration of the same cluster."""
        if config.retry_budget != self.config.retry_budget:
            self.retries.follow(config.retry_budget)
            self.counts_requests = self.retries.counts_requests
        self.config = config
        self.circuit.limits = config.circuit
        self._follow()

    @property
    def is_busy(self) -> bool:
        """Whether any attempt is active."""
        return any(live.active for live in self.endpoints)

    @property
    def is_awaited(self) -> bool:
        """Whether endpoints may appear soon, because their names are being resolved for the first time."""
        return self.answered is not None and not self.answered.is_set()

    async def first_answer(self, seconds: float) -> None:
        """Wait at most `seconds` until all names have been resolved, including those of newer configurations."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.answered is not None and not self.answered.is_set():
                    await self.answered.wait()

    def resolve(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Set the endpoints to which the configured names resolve."""
        self._resolved = endpoints
        self._follow()

    def retire(self) -> None:
        for live in self.endpoints:
            live.retire()
        self._judge_alone()

    def take_retry(self, now: float) -> bool:
        """Start a retry if the budget allows it. `retries.release` ends it."""
        return self.retries.take(self.circuit.all_requests + self.circuit.all_pending, now)

    def marked(self, scope: str) -> dict[bytes, LiveEndpoint]:
        """Return the endpoints by their marks in session tokens of a rule."""
        marked = self._marked.get(scope)
        if marked is None:
            if len(self._marked) >= _MAX_SCOPES:
                self._marked.clear()
            name = self.config.name
            marked = {endpoint_mark(scope, name, live.endpoint): live for live in self.endpoints}
            self._marked[scope] = marked
        return marked

    def pick(
        self, roll: Callable[[], float], avoid: Container[Endpoint] = (), key: bytes | None = None
    ) -> LiveEndpoint | None:
        """Pick an endpoint for the next attempt. One in `avoid` is picked only if there is no other. None if there is
        none.

        With consistent hashing, requests with equal `key` get the same endpoint.
        """
        if self._shared is not None and self._shared.is_news():
            self._choose()
        return self._balancer.pick(roll, avoid, key) if self._balancer is not None else None

    # -- health ----------------------------------------------------------------------------------------------------

    def record(self, live: LiveEndpoint, outcome: Outcome) -> None:
        """Update outlier detection with the end of an attempt, if the destination has it."""
        policy = self.config.outlier
        if policy is None or outcome.is_stale or (outcome.is_success() and live.health.is_clean):
            return
        shared = self._shared
        if shared is None:
            reached = outlier.record(policy, live.health, outcome)
            if not reached:
                return
            now = self._clock()
            is_ejected = self._eject(policy, live, now)
        else:
            now, is_ejected = self._clock(), False
            with shared.lock() as is_held:
                reached = outlier.record(policy, live.health, outcome) if is_held else ""
                if reached and self._eject(policy, live, now):
                    is_ejected = True
                    shared.tell()
            if not reached:
                return
        if not is_ejected:
            self._note(ClusterEvent.EJECTION_OVERFLOW, self.config.name)
            return
        self._note(ClusterEvent.EJECTED, self.config.name)
        seconds = (live.health.ejected_until or now) - now
        name = live.endpoint.workload.workload
        log.warning(
            "%s: %s (%s) is ejected for %g s because of %s; check the endpoint's own log",
            *(self.config.name, live.endpoint, name, seconds, reached),
        )
        self._choose()

    def _eject(self, policy: outlier.OutlierDetection, live: LiveEndpoint, now: float) -> bool:
        return outlier.eject(policy, live.health, [it.health for it in self.endpoints], now)

    def note_reach(self, live: LiveEndpoint, is_reached: bool) -> None:
        """Record whether a connection to an endpoint was established."""
        if is_reached:
            if live.reach.is_doubtful and live.reach.reached():
                self._tell_reach(live)
        elif live.reach.failed(self._clock()):
            self._tell_reach(live)

    def trials(self) -> list[LiveEndpoint]:
        """Return unreachable endpoints that are due for a trial. The caller tests them and calls `note_trial`."""
        now = self._clock()
        return [live for live in self._unreachable if live.reach.take_trial(now)]

    def note_trial(self, live: LiveEndpoint, is_reached: bool) -> None:
        if not is_reached:
            live.reach.failed(self._clock())
        elif live.reach.passed():
            self._tell_reach(live)

    def _tell_reach(self, live: LiveEndpoint) -> None:
        if live.is_retired:
            return
        where = self.config.name, live.endpoint, live.endpoint.workload.workload
        if live.reach.is_avoided:
            self._unreachable.add(live)
            log.info("%s: %s (%s) is unreachable and gets requests only if all endpoints are", *where)
        else:
            self._unreachable.discard(live)
            log.info("%s: %s (%s) is reachable again", *where)
        self._choose()

    @property
    def needs_ticks(self) -> bool:
        return self.config.outlier is not None or self.config.balancing.warm_up is not None

    def tick(self) -> None:
        """Update ejections and slow start. Call it once a second if needed."""
        policy, now = self.config.outlier, self._clock()
        if policy is not None:
            if self._replica is not None and self._replica.has_missed_endpoints:
                self._judge_together()
            returned = self._sweep(policy, now)
            for live in self.endpoints if returned else ():
                if live.health in returned:
                    self._note(ClusterEvent.RETURNED, self.config.name)
                    log.info("%s: %s is no longer ejected", self.config.name, live.endpoint)
            if returned or (self._shared is not None and self._shared.is_news()):
                self._choose()
        if self.config.balancing.warm_up is not None and self._weigh(now):
            self._choose()

    def _sweep(self, policy: outlier.OutlierDetection, now: float) -> list[Health]:
        """Return endpoints whose ejection is over to service, once per interval."""
        healths = (live.health for live in self.endpoints)
        if self._shared is not None:
            return self._shared.sweep(policy.interval, healths, now)
        if now < self._next_sweep:
            return []
        self._next_sweep = now + policy.interval
        return outlier.sweep(healths, now)

    def _judge_together(self) -> None:
        """Let all workers judge the endpoints together, if they are judged at all."""
        if self._replica is None:
            return
        if self.config.outlier is None:
            self._judge_alone()
            return
        if self._shared is None:
            self._shared = self._replica.outliers(self.config.name)
        if self._shared is not None:
            for live in self.endpoints:
                if not isinstance(live.health, SharedHealth):
                    live.health = self._shared.health(_identity(live.endpoint))

    def _judge_alone(self) -> None:
        if self._shared is not None:
            for live in self.endpoints:
                self._shared.forget(_identity(live.endpoint), live.health)
                live.health = Health()
            self._shared.leave()
            self._shared = None
        elif self._replica is not None:
            self._replica.judge_alone(self.config.name)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        config, now = self.config, self._clock()
        known: dict[Endpoint, LiveEndpoint | None] = {_anywhere(live.endpoint): live for live in self.endpoints}
        wanted = {_anywhere(it): it for it in (*config.endpoints, *self._resolved)}
        self.endpoints = [
            known.pop(key, None) or LiveEndpoint(it, self.circuit, config.pool, now, self.note_reach)
            for key, it in wanted.items()
        ]
        self._marked.clear()
        for live, endpoint in zip(self.endpoints, wanted.values(), strict=True):
            live.endpoint = endpoint
            live.pool = config.pool
            live.weight = live.endpoint.weight
            if config.outlier is None:
                live.health.ejected_until = None
        for gone in filter(None, known.values()):
            gone.retire()
            self._unreachable.discard(gone)
            if self._shared is not None:
                self._shared.forget(_identity(gone.endpoint), gone.health)
                gone.health = Health()
        self._judge_together()
        if config.balancing.warm_up is not None:
            self._weigh(now)
        self._choose()

    def _choose(self) -> None:
        """Determine the available endpoints.

        Ejected endpoints are excluded, unless there are so many that all are used. Unreachable ones are excluded,
        unless all are.
        """
        policy = self.config.outlier
        self.available = self.endpoints
        if policy is not None and not outlier.panics(policy, [live.health for live in self.endpoints]):
            self.available = [live for live in self.endpoints if not live.health.is_ejected]
        self.available = [live for live in self.available if not live.reach.is_avoided] or self.available
        self.use({})
        if self.lacking():
            self._lacks(self)

    def lacking(self) -> list[Shape]:
        """Return the shapes of the hash tables for which the cluster waits."""
        return lacking(self._balancers.values())

    def use(self, built: Mapping[Shape, Table]) -> None:
        """Balance the available endpoints, with one balancer per rank. `built` are hash tables that were lacking."""
        balancing, formers = self.config.balancing, self._balancers
        ranks = sorted({live.endpoint.rank for live in self.endpoints})
        if len(ranks) > 1:
            available = {rank: [live for live in self.available if live.endpoint.rank == rank] for rank in ranks}
        else:
            available = dict.fromkeys(ranks, self.available)
        self._balancers = {
            rank: balancer(balancing, candidates, random, built, formers.get(rank))
            for rank, candidates in available.items()
            if candidates
        }
        if len(self._balancers) < 2:
            self._balancer = next(iter(self._balancers.values()), None)
            return
        totals = Counter(live.endpoint.rank for live in self.endpoints)
        shares = loads([Group(rank, len(available[rank]), totals[rank]) for rank in ranks])
        self._balancer = Ranked(
            (share, self._balancers[rank]) for rank, share in zip(ranks, shares, strict=True) if available[rank]
        )

    def _weigh(self, now: float) -> bool:
        """Update weights during slow start. Returns whether any has changed."""
        warm_up = self.config.balancing.warm_up
        assert warm_up is not None
        before = [live.weight for live in self.endpoints]
        for live in self.endpoints:
            share = warm_up.share(now - live.came_at)
            live.weight = max(round(live.endpoint.weight * _FULL_WEIGHT * share), 1)
        return before != [live.weight for live in self.endpoints]


def _build_at_once(cluster: Cluster) -> None:
    cluster.use(build_all(cluster.lacking()))


def _anywhere(endpoint: Endpoint) -> Endpoint:
    """The endpoint's identity regardless of rank, which changes with rules while connections and health stay."""
    return endpoint if endpoint.rank == NEAREST else replace(endpoint, rank=NEAREST)


def _identity(endpoint: Endpoint) -> str:
    """The endpoint's identity as text, which is the same in all workers."""
    return repr(_anywhere(endpoint))
