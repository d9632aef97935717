"""RateLimitPolicy (pywaypoint.dev/v1alpha1): limits on the number of requests, validated like its CRD.

The rules resemble those of Envoy Gateway's rate limits; `clientIdentity` is specific to the mesh. Every rule whose
selectors all hold counts separately.

`LimitCompiler` compiles the object. Requests for one target of a policy share a limit; each target has its own. With
the scope `DividedByReplicas`, the ready pods of the Gateway share a limit evenly. Each pod has at least one token, so
that many replicas do not block all requests.
"""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from l4.config.durations import Duration, seconds_of
from l4.config.resources import Resource, Strict
from l4.discovery.objects import Metadata, PortNumber
from l4.discovery.registry import Registry
from l4.discovery.waypoints import serves
from policies.attributes import ClusterName
from policies.path_normalization import PathNormalization
from policies.rate_limit import Limit, LimitService, RateLimits, RateRule
from waypoint.config.api_fields import ObjectName, SectionName, repeated
from waypoint.config.codes import ConfigCode
from waypoint.config.destinations import Destinations
from waypoint.config.ours.direct_policy import Target
from waypoint.config.ours.policy_api import ClientSelectors, TargetRefs
from waypoint.config.ours.selectors import labelled_conditions_of
from waypoint.config.report import Report

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_ADDRESS = re.compile(rf"(?:[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\]):{_PORT}").fullmatch

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class RateLimit(Struct, frozen=True):
    """`burst` is the number of requests that may come at once, by default `requests`."""

    requests: Count
    unit: Literal["Second", "Minute", "Hour", "Day"]
    burst: Count | None = None


class RateLimitRule(Struct, frozen=True, rename="camel"):
    limit: RateLimit
    name: SectionName | None = None
    client_selectors: ClientSelectors = ()
    shadow_mode: bool = False


class ServiceRef(Struct, frozen=True):
    """A Service in the policy's namespace."""

    name: ObjectName
    port: PortNumber


class GlobalRateLimit(Struct, frozen=True, rename="camel"):
    """The rate limit service: a Service, or the host and port in `address`, which may belong to a ServiceEntry.

    If there is no answer in time, requests pass, or are answered with 500 if `fail_open` is false.
    """

    domain: Annotated[str, Meta(min_length=1, max_length=253)]
    service: ServiceRef | None = None
    address: Annotated[str, Meta(max_length=261)] | None = None
    timeout: Duration = "20ms"
    fail_open: bool = True

    def __post_init__(self) -> None:
        if (self.service is None) == (self.address is None):
            raise ValueError("set either service or address")
        if self.address is not None and not _ADDRESS(self.address):
            raise ValueError(f"address: {self.address!r} is not an address such as ratelimit.example.com:8081")
        if not 0 < (seconds_of(self.timeout) or 0) <= 5:
            raise ValueError("timeout must be from 1ms to 5s, because every request may wait that long")


class RateLimitSpec(Struct, frozen=True, rename="camel"):
    target_refs: TargetRefs
    rules: Annotated[tuple[RateLimitRule, ...], Meta(min_length=1, max_length=64)]
    scope: Literal["PerReplica", "DividedByReplicas", "Global"] = "PerReplica"
    global_: GlobalRateLimit | None = field(name="global", default=None)
    x_rate_limit_headers: Literal["Off", "DraftVersion03"] = "Off"
    grpc_resource_exhausted: bool = False

    def __post_init__(self) -> None:
        if (name := repeated(rule.name for rule in self.rules if rule.name is not None)) is not None:
            raise ValueError(f"rules: two rules have the name {name}; rename one")
        if (self.scope == "Global") != (self.global_ is not None):
            raise ValueError("scope Global and the field global require each other: add the other, or remove it")
        if self.scope == "Global" and any(rule.limit.burst is not None for rule in self.rules):
            raise ValueError("rules: burst has no effect in scope Global, whose service counts in fixed windows")


class RateLimitPolicy(Strict, frozen=True, rename="camel"):
    metadata: Metadata
    spec: RateLimitSpec


_SECONDS = {"Second": 1, "Minute": 60, "Hour": 3600, "Day": 86400}


class LimitCompiler:
    """`gateway` is the (namespace, name) of our Gateway."""

    def __init__(
        self,
        registry: Registry,
        gateway: tuple[str, str],
        normalization: PathNormalization,
        clusters: Destinations,
    ) -> None:
        self._registry = registry
        self._clusters = clusters
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
        address, cluster = (
            self._at(limit.address, namespace) if limit.address else self._named(namespace, limit, report)
        )
        return LimitService(
            address=address,
            cluster=cluster,
            domain=limit.domain,
            timeout_seconds=seconds_of(limit.timeout) or 0.0,
            is_fail_open=limit.fail_open,
        )

    def _at(self, address: str, namespace: str) -> tuple[str, ClusterName]:
        """An address of a Service or ServiceEntry refers to it. Any other address is called directly."""
        host, _, port = address.rpartition(":")
        host, number = host.strip("[]").lower(), int(port)
        service = self._registry.visible(host, namespace)
        its = service.port(number) if service is not None else None
        if service is None or its is None:
            return address, self._clusters.at(host, number)
        return address, self._clusters.of(service, its)

    def _named(self, namespace: str, limit: GlobalRateLimit, report: Report) -> tuple[str, ClusterName | None]:
        assert limit.service is not None
        name, port = limit.service.name, limit.service.port
        service = self._registry.service_named(namespace, name)
        its = service.port(port) if service is not None else None
        if service is None or its is None:
            consequence = "every request passes" if limit.fail_open else "every request is answered with 500"
            sentence = f"there is no Service {namespace}/{name} with a port {port}; {consequence}"
            report.tell("spec.global.service", sentence, ConfigCode.BACKEND_NOT_FOUND)
            return f"{name}.{namespace}:{port}", None
        return f"{service.hostname}:{port}", self._clusters.of(service, its)


def replicas_of(registry: Registry, gateway: tuple[str, str]) -> int:
    """Return the number of pods that serve the Gateway, at least 1."""
    return max(1, sum(it.is_healthy and serves(it, gateway) for it in registry.workloads.values()))


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
