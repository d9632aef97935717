"""The live side of rate limits: one set of buckets for the process, its clock, and its counters."""

import time

from l4.telemetry.metrics import MeshMetrics
from policies.attributes import Peer, RequestHead
from policies.rate_limit import Buckets, Quota, RateLimits
from waypoint.config.snapshot import Snapshot


class Limiter:
    __slots__ = ("_buckets", "_metrics")

    def __init__(self, metrics: MeshMetrics) -> None:
        self._buckets = Buckets()
        self._metrics = metrics

    def take(self, limits: RateLimits, head: RequestHead, peer: Peer) -> Quota | None:
        quota = self._buckets.take(limits, head, peer, time.monotonic())
        if quota is None:
            return None
        count = self._metrics.rate_limits
        for rule in quota.over:
            count.labels((limits.policy, rule.name, "over_limit")).add()
        for rule in quota.shadowed:
            count.labels((limits.policy, rule.name, "shadow_over_limit")).add()
        if not quota.over:
            count.labels((limits.policy, "", "ok")).add()
        return quota

    def reconcile(self, snapshot: Snapshot) -> None:
        """Forget what is no longer configured; all other buckets keep their level."""
        self._buckets.keep(rule.bucket for limits in snapshot.limits for rule in limits.rules)
