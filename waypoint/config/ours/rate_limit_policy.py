"""RateLimitPolicy (pywaypoint.dev/v1alpha1): how many requests may pass, checked as its CRD does.

The list of rules is that of Envoy Gateway's rate limits in spirit; `clientIdentity` is the mesh's own. Every rule whose
selectors all hold counts by itself.
"""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from l4.config.resources import Strict
from l4.discovery.objects import Metadata, PortNumber
from waypoint.config.api_fields import Duration, ObjectName, SectionName, repeated
from waypoint.config.gateway_api.routes import parse_duration
from waypoint.config.ours.policy_api import ClientSelectors, TargetRefs

_ADDRESS = re.compile(r"(?:[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}").fullmatch

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class RateLimit(Struct, frozen=True):
    """`burst` is how many may come at once; as many as `requests` unless it is given."""

    requests: Count
    unit: Literal["Second", "Minute", "Hour", "Day"]
    burst: Count | None = None


class RateLimitRule(Struct, frozen=True, rename="camel"):
    limit: RateLimit
    name: SectionName | None = None
    client_selectors: ClientSelectors = ()
    shadow_mode: bool = False


class ServiceRef(Struct, frozen=True):
    """A Service of the policy's own namespace."""

    name: ObjectName
    port: PortNumber


class GlobalRateLimit(Struct, frozen=True, rename="camel"):
    """Who counts: a Service, or what is at `address`. Without an answer in time requests pass, unless `fail_open` is
    false: they are answered 500 then."""

    domain: Annotated[str, Meta(min_length=1, max_length=253)]
    service: ServiceRef | None = None
    address: Annotated[str, Meta(max_length=261)] | None = None
    timeout: Duration = "20ms"
    fail_open: bool = True

    def __post_init__(self) -> None:
        if (self.service is None) == (self.address is None):
            raise ValueError("give one of service and address")
        if self.address is not None and not _ADDRESS(self.address):
            raise ValueError(f"address: {self.address!r} is no address such as ratelimit.example.com:8081")
        if not 0 < (parse_duration(self.timeout) or 0) <= 5:
            raise ValueError("timeout: give 1ms to 5s; every request waits as long when the service is slow")


class RateLimitSpec(Struct, frozen=True, rename="camel"):
    target_refs: TargetRefs
    rules: Annotated[tuple[RateLimitRule, ...], Meta(min_length=1, max_length=64)]
    scope: Literal["PerReplica", "DividedByReplicas", "Global"] = "PerReplica"
    global_: GlobalRateLimit | None = field(name="global", default=None)
    x_rate_limit_headers: Literal["Off", "DraftVersion03"] = "Off"
    grpc_resource_exhausted: bool = False

    def __post_init__(self) -> None:
        if (name := repeated(rule.name for rule in self.rules if rule.name is not None)) is not None:
            raise ValueError(f"rules: two have the name {name}; rename one")
        if (self.scope == "Global") != (self.global_ is not None):
            raise ValueError("scope Global and the field global go together: add the other, or take it out")
        if self.scope == "Global" and any(rule.limit.burst is not None for rule in self.rules):
            raise ValueError("rules: burst has no meaning in scope Global, whose service counts in fixed windows")


class RateLimitPolicy(Strict, frozen=True, rename="camel"):
    metadata: Metadata
    spec: RateLimitSpec
