"""BodyLimitPolicy (pywaypoint.dev/v1alpha1): how long the bodies of requests may be.

`limit_of` compiles the object to the policy of the filter.
"""

from typing import Annotated

from msgspec import Meta, Struct
from policies.body_limit import BodyLimit

from l4.config.resources import Resource, Strict
from l4.discovery.objects import Metadata
from waypoint.config.ours.direct_policy import Target
from waypoint.config.ours.policy_api import TargetRefs
from waypoint.config.report import Report


class BodyLimitSpec(Struct, frozen=True, rename="camel"):
    target_refs: TargetRefs
    max_bytes: Annotated[int, Meta(ge=0, le=1 << 40)]


class BodyLimitPolicy(Strict, frozen=True, rename="camel"):
    metadata: Metadata
    spec: BodyLimitSpec


def limit_of(resource: Resource[BodyLimitPolicy], target: Target, report: Report) -> BodyLimit:
    return BodyLimit(str(resource.key), resource.value.spec.max_bytes)
