"""DestinationRule (networking.istio.io), checked as istiod's validation would.

https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct, field

from l4.config.resources import Strict
from l4.discovery.objects import Metadata
from waypoint.config.api_fields import repeated
from waypoint.config.istio.traffic_policy import TrafficPolicy


class Subset(Struct, frozen=True, rename="camel"):
    """Endpoints of the host that have all the labels; without labels, all of them."""

    name: Annotated[
        str,
        Meta(
            max_length=63,
            pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?\Z",
            description="the name of a subset: letters, digits, and - and . within",
        ),
    ]
    labels: dict[str, str] = field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class WorkloadSelector(Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = field(default_factory=dict)

    def selects(self, labels: Mapping[str, str]) -> bool:
        return self.match_labels.items() <= labels.items()


class DestinationRuleSpec(Struct, frozen=True, rename="camel"):
    host: Annotated[str, Meta(min_length=1, max_length=253)]
    traffic_policy: TrafficPolicy | None = None
    subsets: Annotated[tuple[Subset, ...], Meta(max_length=4096)] = ()
    export_to: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    workload_selector: WorkloadSelector | None = None

    def __post_init__(self) -> None:
        if (name := repeated(subset.name for subset in self.subsets)) is not None:
            raise ValueError(f"subsets: {name!r} is there twice")


class DestinationRule(Strict, frozen=True):
    metadata: Metadata
    spec: DestinationRuleSpec
