"""RateLimitPolicy (pywaypoint.dev/v1alpha1): how many requests may pass, checked as its CRD does.

The list of rules is that of Envoy Gateway's rate limits in spirit; `clientIdentity` is the mesh's own. Every rule whose
selectors all hold counts by itself.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from l4.config.resources import Strict
from l4.discovery.objects import Metadata
from waypoint.config.api_fields import SectionName, repeated
from waypoint.config.policy_api import ClientSelectors, TargetRefs

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


class RateLimitSpec(Struct, frozen=True, rename="camel"):
    target_refs: TargetRefs
    rules: Annotated[tuple[RateLimitRule, ...], Meta(min_length=1, max_length=64)]
    scope: Literal["PerReplica", "DividedByReplicas"] = "PerReplica"
    x_rate_limit_headers: Literal["Off", "DraftVersion03"] = "Off"
    grpc_resource_exhausted: bool = False

    def __post_init__(self) -> None:
        if (name := repeated(rule.name for rule in self.rules if rule.name is not None)) is not None:
            raise ValueError(f"rules: two have the name {name}; rename one")


class RateLimitPolicy(Strict, frozen=True, rename="camel"):
    metadata: Metadata
    spec: RateLimitSpec
