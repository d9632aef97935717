"""RateLimitPolicy → the limits of the data path.

All requests for one target are counted together, those for another target of the same policy by themselves. Divided by
replicas, a limit is shared out evenly among the ready pods of the Gateway; each has at least one token to give, so that
nobody is locked out by many replicas.
"""

from l4.config.resources import Resource
from l4.discovery.registry import Registry
from policies.rate_limit import Limit, RateLimits, RateRule
from waypoint.config.direct_policy import Target
from waypoint.config.rate_limit_policy import RateLimit, RateLimitPolicy, RateLimitRule
from waypoint.config.selectors import conditions_of

_SECONDS = {"Second": 1, "Minute": 60, "Hour": 3600, "Day": 86400}
_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


def limits_of(resource: Resource[RateLimitPolicy], target: Target, replicas: int) -> RateLimits:
    spec = resource.value.spec
    shares = replicas if spec.scope == "DividedByReplicas" else 1
    scope = f"{resource.key} for {target}"
    return RateLimits(
        policy=str(resource.key),
        rules=tuple(_rule(rule.name or str(index), scope, rule, shares) for index, rule in enumerate(spec.rules)),
        has_headers=spec.x_rate_limit_headers == "DraftVersion03",
        is_resource_exhausted=spec.grpc_resource_exhausted,
    )


def replicas_of(registry: Registry, gateway: tuple[str, str]) -> int:
    """How many pods serve the Gateway; at least the one that asks."""
    namespace, name = gateway
    pods = (it for it in registry.workloads.values() if it.namespace == namespace and it.is_healthy)
    return max(1, sum(it.labels.get(_GATEWAY_NAME) == name for it in pods))


def _rule(name: str, scope: str, rule: RateLimitRule, shares: int) -> RateRule:
    return RateRule(
        name=name,
        bucket=f"{scope} rules[{name}]",
        limit=_limit(rule.limit, shares),
        conditions=conditions_of(rule.client_selectors),
        is_distinct=any(selector.distinct for selector in rule.client_selectors),
        is_shadow=rule.shadow_mode,
    )


def _limit(limit: RateLimit, shares: int) -> Limit:
    capacity = max(1.0, (limit.burst or limit.requests) / shares)
    return Limit(limit.requests, capacity, limit.requests / _SECONDS[limit.unit] / shares, limit.unit.lower())
