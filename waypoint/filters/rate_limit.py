"""The filter of RateLimitPolicies. It takes from buckets of the replica, or asks a service that counts for all
replicas."""

from collections.abc import Iterable, Iterator
from functools import partial
from time import monotonic

from l4.telemetry.metrics import Family, Value, counter
from policies.attributes import ResponseHead
from policies.balancing.endpoint import Endpoint
from policies.breaker import Breaker
from policies.rate_limit import Buckets, LimitService, Measured, Quota, RateLimits
from waypoint.config.words import conditions_words
from waypoint.errors import RateLimited
from waypoint.filters.filter import Act, Environment, Filter, Filtering, Waiting, waits
from waypoint.filters.part import Part
from waypoint.telemetry.phases import phase

RATE_LIMITS = counter("pywaypoint_rate_limit", "Requests that a rate limit counted.", ("policy", "rule", "outcome"))
RATE_LIMIT_SERVICE = counter(
    "pywaypoint_rate_limit_service", "Questions to a rate limit service.", ("service", "outcome")
)


class RateLimiting(Filter[RateLimits]):
    types = (RateLimits,)
    metrics = (RATE_LIMITS, RATE_LIMIT_SERVICE)

    def __init__(self) -> None:
        self._buckets = Buckets()
        self._breakers: dict[LimitService, Breaker] = {}
        self._passed: dict[str, Value] = {}  # counters by policy

    def begin(self, environment: Environment) -> None:
        self._environment = environment
        if environment.replica is not None:
            self._buckets = environment.replica.buckets()
        self._limited = environment.metrics.of(RATE_LIMITS)
        self._asked = environment.metrics.of(RATE_LIMIT_SERVICE)

    def reconcile(self, policies: Iterable[RateLimits]) -> None:
        """Forget rules and services that are gone. Other buckets keep their level."""
        all_limits = list(policies)
        self._passed.clear()
        self._buckets.keep(rule.bucket for limits in all_limits for rule in limits.rules)
        services = {limits.service for limits in all_limits}
        self._breakers = {service: breaker for service, breaker in self._breakers.items() if service in services}

    def request_head(self, policy: RateLimits, request: Filtering) -> Act | None:
        if policy.service is None:
            request.attach(told := _Told())
            return partial(self._take, policy, told, request)
        measured = policy.measure(request.head, request.peer)
        if not measured:
            return None
        if policy.service.cluster is not None:
            request.want(policy.service.cluster)
        request.attach(told := _Told())
        return waits(partial(self._ask, policy, measured, told, request))

    def _take(self, limits: RateLimits, told: "_Told", request: Filtering) -> None:
        """Take a token from each bucket of the request."""
        quota = told.quota = _take(self._buckets, limits, request)
        if quota is not None:
            _count(quota, limits, self._limited, self._passed)
            if quota.over:
                request.answer(RateLimited(is_resource_exhausted=limits.is_resource_exhausted))

    async def _ask(
        self, limits: RateLimits, measured: Measured, told: "_Told", request: Filtering, waiting: Waiting
    ) -> None:
        from waypoint.filters import rate_limit_service  # see waypoint.process.loading

        service = limits.service
        assert service is not None
        cluster = request.clusters[service.cluster] if service.cluster is not None else None
        breaker = self._breakers.get(service)
        if breaker is None:
            breaker = self._breakers[service] = Breaker()
        with phase(request.record, f"rate limit {service.address}") as span:
            asked = await rate_limit_service.ask(self._environment, cluster, breaker, limits, measured, span)
            if span is not None:
                span.note("outcome", asked.outcome)
        self._asked.labels((service.address, asked.outcome)).add()
        told.quota = asked.quota
        request.head.headers += asked.request_headers
        if asked.error is not None:
            request.answer(asked.error)

    def words(self, policy: RateLimits) -> Iterator[str]:
        for rule in policy.rules:
            limit, verb = rule.limit, "count" if rule.is_shadow else "limit"
            words = f"{verb} to {limit.requests} a {limit.unit}, {limit.capacity:g} at once"
            words += f", counted by {policy.service.address}" if policy.service is not None else ""
            yield f"{words}{conditions_words(rule.conditions)} ({policy.policy} rules[{rule.name}])"


def _take(buckets: Buckets, limits: RateLimits, request: Filtering) -> Quota | None:
    return buckets.take(limits, request.head, request.peer, monotonic())


def _count(quota: Quota, limits: RateLimits, all_counters: Family[Value], passed: dict[str, Value]) -> None:
    """Count what the rules did with a request. `passed` has the counters of requests that passed, by policy."""
    for rule in quota.over:
        all_counters.labels((limits.policy, rule.name, "over_limit")).add()
    for rule in quota.shadowed:
        all_counters.labels((limits.policy, rule.name, "shadow_over_limit")).add()
    if not quota.over:
        value: Value | None = passed.get(limits.policy)
        if value is None:
            value = passed[limits.policy] = all_counters.labels((limits.policy, "", "ok"))
        value.value += 1


class _Told(Part):
    """Tells the client how much of its limit is left."""

    __slots__ = ("quota",)

    def __init__(self) -> None:
        self.quota: Quota | None = None

    def response_head(self, head: ResponseHead, endpoint: Endpoint | None) -> None:
        if self.quota is not None:
            self.quota.mark(head.headers)
