"""RateLimitPolicy → the limits of the data path.

All requests for one target are counted together, those for another target of the same policy by themselves. Divided by
replicas, a limit is shared out evenly among the ready pods of the Gateway; each has at least one token to give, so that
nobody is locked out by many replicas.
"""

from l4.config.codes import Code
from l4.config.resources import Resource
from l4.discovery.registry import Registry
from policies.path_normalization import PathNormalization
from policies.rate_limit import Limit, LimitService, RateLimits, RateRule
from waypoint.config.gateway_api.routes import parse_duration
from waypoint.config.ours.direct_policy import Target
from waypoint.config.ours.rate_limit_policy import GlobalRateLimit, RateLimit, RateLimitPolicy, RateLimitRule
from waypoint.config.ours.selectors import labelled_conditions_of
from waypoint.config.report import Report

_SECONDS = {"Second": 1, "Minute": 60, "Hour": 3600, "Day": 86400}
_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"


class LimitCompiler:
    """`gateway` is (namespace, name) of ours."""

    def __init__(self, registry: Registry, gateway: tuple[str, str], normalization: PathNormalization) -> None:
        self._registry = registry
        self._normalization = normalization
        self._replicas = replicas_of(registry, gateway)

    def limits(self, resource: Resource[RateLimitPolicy], target: Target, report: Report) -> RateLimits:
        spec = resource.value.spec
        shares = self._replicas if spec.scope == "DividedByReplicas" else 1
        scope = f"{resource.key} for {target}"
        return RateLimits(
            policy=str(resource.key),
            rules=tuple(
                _rule(rule.name or str(index), scope, rule, shares, self._normalization)
                for index, rule in enumerate(spec.rules)
            ),
            has_headers=spec.x_rate_limit_headers == "DraftVersion03",
            is_resource_exhausted=spec.grpc_resource_exhausted,
            service=self._service(resource.key.namespace, spec.global_, report) if spec.global_ is not None else None,
        )

    def _service(self, namespace: str, limit: GlobalRateLimit, report: Report) -> LimitService:
        return LimitService(
            address=limit.address or self._address(namespace, limit, report),
            domain=limit.domain,
            timeout_seconds=parse_duration(limit.timeout) or 0.0,
            is_fail_open=limit.fail_open,
        )

    def _address(self, namespace: str, limit: GlobalRateLimit, report: Report) -> str:
        assert limit.service is not None
        name, port = limit.service.name, limit.service.port
        service = self._registry.service_named(namespace, name)
        if service is None or port not in {it.port for it in service.ports}:
            consequence = "every request passes" if limit.fail_open else "every request is answered 500"
            sentence = f"there is no Service {namespace}/{name} with a port {port}; {consequence}"
            report.tell("spec.global.service", sentence, Code.BACKEND_NOT_FOUND)
            return ""
        host = service.addresses[0] if service.addresses else service.hostname
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def replicas_of(registry: Registry, gateway: tuple[str, str]) -> int:
    """How many pods serve the Gateway; at least the one that asks."""
    namespace, name = gateway
    pods = (it for it in registry.workloads.values() if it.namespace == namespace and it.is_healthy)
    return max(1, sum(it.labels.get(_GATEWAY_NAME) == name for it in pods))


def _rule(name: str, scope: str, rule: RateLimitRule, shares: int, normalization: PathNormalization) -> RateRule:
    conditions = labelled_conditions_of(rule.client_selectors, normalization)
    labels = tuple(label for _, label in conditions)
    return RateRule(
        name=name,
        bucket=f"{scope} rules[{name}]",
        limit=_limit(rule.limit, shares),
        conditions=tuple(condition for condition, _ in conditions),
        labels=labels if any(labels) else (),
        is_shadow=rule.shadow_mode,
    )


def _limit(limit: RateLimit, shares: int) -> Limit:
    capacity = max(1.0, (limit.burst or limit.requests) / shares)
    return Limit(limit.requests, capacity, limit.requests / _SECONDS[limit.unit] / shares, limit.unit.lower())
