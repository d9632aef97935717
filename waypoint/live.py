"""What our own policies know beside their configuration: how full buckets are, and which fault plans were given up.

It outlives configurations, and is found by the names of rules and plans. `reconcile` is called on every swap.
"""

import logging
import time
from collections.abc import Iterable

from l4.telemetry.metrics import MeshMetrics, counter, gauge
from l4.telemetry.samples import Merging
from policies.attributes import Peer, RequestHead
from policies.breaker import Breaker
from policies.fault_plan import ErrorWatch, FaultPlan
from policies.grpc_status import HTTP_STATUSES
from policies.rate_limit import Buckets, LimitService, Quota, RateLimits
from waypoint.config.snapshot import Snapshot

log = logging.getLogger(__name__)

_GRPC_ERRORS = frozenset(str(code) for code, status in HTTP_STATUSES.items() if status >= 500)

RATE_LIMITS = counter("pywaypoint_rate_limit", "Requests that a rate limit counted.", ("policy", "rule", "outcome"))
RATE_LIMIT_SERVICE = counter(
    "pywaypoint_rate_limit_service", "Questions to a rate limit service.", ("service", "outcome")
)
STOPPED_FAULTS = gauge(
    "pywaypoint_fault_stopped", "1 for a fault plan that stopped because its target fails.", ("plan",), Merging.MAX
)


class LivePolicies:
    __slots__ = ("_asked", "_breakers", "_buckets", "_limited", "_stopped", "_watched")

    def __init__(self, metrics: MeshMetrics) -> None:
        self._breakers: dict[LimitService, Breaker] = {}
        self._buckets = Buckets()
        self._limited = metrics.of(RATE_LIMITS)
        self._asked = metrics.of(RATE_LIMIT_SERVICE)
        self._stopped = metrics.of(STOPPED_FAULTS)
        self._watched: dict[str, tuple[FaultPlan, ErrorWatch]] = {}

    def reconcile(self, snapshot: Snapshot) -> None:
        """Forget what is no longer configured, and the past of plans that were changed; buckets keep their level."""
        self._buckets.keep(rule.bucket for limits in snapshot.limits for rule in limits.rules)
        self._reconcile_watches(snapshot.fault_plans)
        services = {limits.service for limits in snapshot.limits if limits.service is not None}
        for service in self._breakers.keys() - services:
            del self._breakers[service]

    def _reconcile_watches(self, plans: Iterable[FaultPlan]) -> None:
        before, self._watched = self._watched, {}
        for plan in plans:
            if plan.stop_when is not None:
                known = before.pop(plan.name, None)
                is_same = known is not None and known[0] == plan
                self._watched[plan.name] = known if known and is_same else (plan, ErrorWatch(plan.stop_when))
                self._stopped.labels((plan.name,)).value = int(self.is_stopped(plan))
        for name in before:
            self._stopped.labels((name,)).value = 0

    def take(self, limits: RateLimits, head: RequestHead, peer: Peer) -> Quota | None:
        """Take what the request costs out of its buckets; None when no rule is for it."""
        quota = self._buckets.take(limits, head, peer, time.monotonic())
        if quota is None:
            return None
        count = self._limited
        for rule in quota.over:
            count.labels((limits.policy, rule.name, "over_limit")).add()
        for rule in quota.shadowed:
            count.labels((limits.policy, rule.name, "shadow_over_limit")).add()
        if not quota.over:
            count.labels((limits.policy, "", "ok")).add()
        return quota

    def breaker(self, service: LimitService) -> Breaker:
        """What is known of a rate limit service."""
        breaker = self._breakers.get(service)
        if breaker is None:
            breaker = self._breakers[service] = Breaker()
        return breaker

    def note_asked(self, service: LimitService, outcome: str) -> None:
        self._asked.labels((service.address, outcome)).add()

    def is_stopped(self, plan: FaultPlan) -> bool:
        """Whether its target suffered too much."""
        watched = self._watched.get(plan.name)
        return watched is not None and watched[1].is_stopped

    def record(self, plan: FaultPlan, status: int, grpc_status: str) -> None:
        """How a request ended that was for the plan's target to answer; `status` is 0 when its client left."""
        watched = self._watched.get(plan.name)
        if watched is None or watched[1].is_stopped or not status:
            return
        watched[1].record(is_error=status >= 500 or grpc_status in _GRPC_ERRORS, now=time.monotonic())
        if self.is_stopped(plan):
            self._stopped.labels((plan.name,)).value = 1
            log.warning("%s: no more faults, for too many requests failed; change the policy to begin anew", plan.name)
