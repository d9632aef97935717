"""Retry state of an exchange whose first attempt failed: endpoints tried, and the charge to the destination's budget.

The policy decides which outcomes are retried, and the budget limits the load on the destination. Undelivered requests
are no load and free; so is the one extra attempt after a stale connection.
"""

import time
from collections.abc import Callable
from random import random

from policies.balancing.endpoint import Endpoint
from policies.outcome import Outcome
from policies.retry import LONGEST_RETRY_AFTER, RetryPolicy, retry_after
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.events import ClusterEvent


class Retrying:
    """`note` receives every counted event."""

    __slots__ = ("_cluster", "_is_charged", "_note", "_policy", "has_given_up", "tried")

    def __init__(self, policy: RetryPolicy, cluster: Cluster, note: Callable[[ClusterEvent], None]) -> None:
        self._policy = policy
        self._cluster = cluster
        self._note = note
        self._is_charged = False
        self.has_given_up = False
        self.tried: set[Endpoint] = set()

    def pause(self, count: int, outcome: Outcome, endpoint: Endpoint) -> float | None:
        """Return the seconds to wait after attempt number `count`, or None if there is no retry."""
        if not self._policy.allows(count, outcome):
            self._give_up(ClusterEvent.LIMIT_EXCEEDED)
            return None
        wish = retry_after(outcome.headers, time.time())
        if wish > LONGEST_RETRY_AFTER:
            return None
        self.release()
        if not outcome.is_stale and not outcome.is_undelivered:
            if not self._cluster.take_retry(time.monotonic()):
                self._give_up(ClusterEvent.OVERFLOW)
                return None
            self._is_charged = True
        if self._policy.avoids_tried:
            self.tried.add(endpoint)
        self._note(ClusterEvent.RETRY)
        self._note(ClusterEvent.BACKOFF_RATELIMITED if wish else ClusterEvent.BACKOFF_EXPONENTIAL)
        return 0.0 if outcome.is_stale else wish + self._policy.delay(count, random())

    def release(self) -> None:
        """The attempt charged to the budget has ended."""
        if self._is_charged:
            self._is_charged = False
            self._cluster.retries.release()

    def finished(self) -> None:
        if not self.has_given_up:
            self._note(ClusterEvent.SUCCESS)

    def _give_up(self, why: ClusterEvent) -> None:
        self.has_given_up = True
        self._note(why)
