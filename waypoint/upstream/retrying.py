"""What an exchange whose first attempt failed keeps: where it has been, and what its destination's budget bears.

The policy says what is a reason to try again, the budget what the destination can bear. What was delivered to nobody is
no load and free, and so is the one attempt for a connection that turned out closed when it was used again.
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
    """`note` is told of everything that is counted."""

    __slots__ = ("_cluster", "_is_charged", "_note", "_policy", "has_given_up", "tried")

    def __init__(self, policy: RetryPolicy, cluster: Cluster, note: Callable[[ClusterEvent], None]) -> None:
        self._policy = policy
        self._cluster = cluster
        self._note = note
        self._is_charged = False
        self.has_given_up = False
        self.tried: set[Endpoint] = set()

    def pause(self, count: int, outcome: Outcome, endpoint: Endpoint) -> float | None:
        """Seconds until the attempt that follows the `count`-th, which ended so; None when there is to be none."""
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
        """The attempt that the budget was charged for is over."""
        if self._is_charged:
            self._is_charged = False
            self._cluster.retries.release()

    def finished(self) -> None:
        if not self.has_given_up:
            self._note(ClusterEvent.SUCCESS)

    def _give_up(self, why: ClusterEvent) -> None:
        self.has_given_up = True
        self._note(why)
