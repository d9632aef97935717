"""One destination with its live state: its endpoints, what is under way to it, and which of them may be picked.

This outlives snapshots: `reconcile` takes a new configuration and keeps the state of the endpoints that stay. The
configuration decides nothing here, and nothing here is ever read by it.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import replace
from random import random

from policies import outlier
from policies.balancing.endpoint import Endpoint
from policies.balancing.locality import NEAREST, Group, loads
from policies.circuit import Circuit
from policies.outcome import Outcome
from policies.retry_budget import Spending
from policies.session import endpoint_mark
from waypoint.config.snapshot import ClusterConfig
from waypoint.upstream.balancer import Balancer, Ranked, balancer
from waypoint.upstream.branches import Branches
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.events import ClusterEvent, Note

log = logging.getLogger(__name__)

_MAX_SCOPES = 64  # rules with sessions that lead to one cluster; beyond it their tables are made anew
_FULL_WEIGHT = 100  # of an endpoint with weight 1, so that a share of it is a whole number


class Cluster:
    """`note` is told of what befalls it. `answered`: the names of its endpoints have been looked up once, with or
    without success. `branches` are there for a destination without endpoints of its own, their `trunk`: they count
    against the same bounds."""

    __slots__ = (
        "_balancer",
        "_clock",
        "_marked",
        "_next_sweep",
        "_note",
        "_resolved",
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
        self._note = note
        self._clock = clock
        self._next_sweep = 0.0
        self._unreachable: set[LiveEndpoint] = set()
        self._follow()

    def reconcile(self, config: ClusterConfig) -> None:
        """Take a new configuration for the same name."""
        if config.retry_budget != self.config.retry_budget:
            self.retries.follow(config.retry_budget)
            self.counts_requests = self.retries.counts_requests
        self.config = config
        self.circuit.limits = config.circuit
        self._follow()

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way to it."""
        return any(live.active for live in self.endpoints)

    @property
    def is_awaited(self) -> bool:
        """Whether endpoints may come at once: their names are being looked up for the first time."""
        return self.answered is not None and not self.answered.is_set()

    async def first_answer(self, seconds: float) -> None:
        """Wait until the names have been looked up, those of a configuration that comes meanwhile, too; for so long at
        most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.answered is not None and not self.answered.is_set():
                    await self.answered.wait()

    def resolve(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Where the names of the configuration lead by now."""
        self._resolved = endpoints
        self._follow()

    def retire(self) -> None:
        for live in self.endpoints:
            live.retire()

    def take_retry(self, now: float) -> bool:
        """Begin a retry, if the budget has room for it; `retries.release` ends it."""
        return self.retries.take(self.circuit.requests + self.circuit.pending, now)

    def marked(self, scope: str) -> dict[bytes, LiveEndpoint]:
        """The endpoints by the marks that the sessions of a rule give them."""
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
        """The next attempt's endpoint, one of those to avoid only when there is no other; None when there is none. By
        their `key` requests stay together, where the destination has it so."""
        return self._balancer.pick(roll, avoid, key) if self._balancer is not None else None

    # -- health ----------------------------------------------------------------------------------------------------

    def record(self, live: LiveEndpoint, outcome: Outcome) -> None:
        """Judge an endpoint by how an attempt ended; only where the destination has outlier detection."""
        policy = self.config.outlier
        if policy is None or outcome.is_stale:
            return
        reached = outlier.record(policy, live.health, outcome)
        if not reached:
            return
        now = self._clock()
        if not outlier.eject(policy, live.health, [it.health for it in self.endpoints], now):
            self._note(ClusterEvent.EJECTION_OVERFLOW, self.config.name)
            return
        self._note(ClusterEvent.EJECTED, self.config.name)
        seconds = (live.health.ejected_until or now) - now
        name = live.endpoint.workload.workload
        log.warning(
            "%s: %s (%s) gets no requests for %g s, because of %s in a row: see what it logs itself",
            *(self.config.name, live.endpoint, name, seconds, reached),
        )
        self._choose()

    def note_reach(self, live: LiveEndpoint, is_reached: bool) -> None:
        """Remember whether a connection to an endpoint could be made."""
        if is_reached:
            if live.reach.is_doubtful and live.reach.reached():
                self._tell_reach(live)
        elif live.reach.failed(self._clock()):
            self._tell_reach(live)

    def trials(self) -> list[LiveEndpoint]:
        """The unreachable endpoints of which it is time to know whether they still are: the caller tries them, and
        calls `note_trial`."""
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
            log.info("%s: %s (%s) can't be reached, and gets requests only where no other endpoint can", *where)
        else:
            self._unreachable.discard(live)
            log.info("%s: %s (%s) can be reached again", *where)
        self._choose()

    @property
    def needs_ticks(self) -> bool:
        return self.config.outlier is not None or self.config.balancing.warm_up is not None

    def tick(self) -> None:
        """Once a second, where it is needed: let endpoints come back, and warm up."""
        policy, now = self.config.outlier, self._clock()
        if policy is not None and now >= self._next_sweep:
            self._next_sweep = now + policy.interval
            returned = outlier.sweep((live.health for live in self.endpoints), now)
            for live in self.endpoints if returned else ():
                if live.health in returned:
                    self._note(ClusterEvent.RETURNED, self.config.name)
                    log.info("%s: %s gets requests again; nothing is to be done", self.config.name, live.endpoint)
            if returned:
                self._choose()
        if self.config.balancing.warm_up is not None and self._weigh(now):
            self._choose()

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
        if config.balancing.warm_up is not None:
            self._weigh(now)
        self._choose()

    def _choose(self) -> None:
        """Leave out who is ejected, unless so many are that it is better to ask them all; and of the rest those that
        can't be reached, unless none of them can."""
        policy = self.config.outlier
        self.available = self.endpoints
        if policy is not None and not outlier.panics(policy, [live.health for live in self.endpoints]):
            self.available = [live for live in self.endpoints if not live.health.is_ejected]
        self.available = [live for live in self.available if not live.reach.is_avoided] or self.available
        self._balancer = self._balanced() if self.available else None

    def _balanced(self) -> Balancer:
        """One balancer for all, or one for each rank where some endpoints are nearer than others."""
        balancing = self.config.balancing
        ranks = sorted({live.endpoint.rank for live in self.endpoints})
        if len(ranks) == 1:
            return balancer(balancing, self.available, random)
        available = {rank: [live for live in self.available if live.endpoint.rank == rank] for rank in ranks}
        totals = Counter(live.endpoint.rank for live in self.endpoints)
        shares = loads([Group(rank, len(available[rank]), totals[rank]) for rank in ranks])
        return Ranked(
            (share, balancer(balancing, available[rank], random))
            for rank, share in zip(ranks, shares, strict=True)
            if available[rank]
        )

    def _weigh(self, now: float) -> bool:
        """Let endpoints count as much as they are warm; whether any counts otherwise than before."""
        warm_up = self.config.balancing.warm_up
        assert warm_up is not None
        before = [live.weight for live in self.endpoints]
        for live in self.endpoints:
            share = warm_up.share(now - live.came_at)
            live.weight = max(round(live.endpoint.weight * _FULL_WEIGHT * share), 1)
        return before != [live.weight for live in self.endpoints]


def _anywhere(endpoint: Endpoint) -> Endpoint:
    """What makes an endpoint the same one: its rank changes with rules, and its connections and health outlive that."""
    return replace(endpoint, rank=NEAREST)
