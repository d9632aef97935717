"""GatewayClasses and Gateways, as much of them as the controller reads."""

from collections.abc import Mapping
from typing import Any

import msgspec

from waypoint.controller.rendering import Waypoint

REVISION_LABEL = "istio.io/rev"


class Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class ParametersRef(msgspec.Struct):
    name: str
    kind: str = ""
    group: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of the group {self.group or 'core'}"


class Infrastructure(msgspec.Struct, rename="camel"):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    parameters_ref: ParametersRef | None = None


class Listener(msgspec.Struct):
    name: str
    port: int = 0
    protocol: str = ""


class GatewaySpec(msgspec.Struct, rename="camel"):
    gateway_class_name: str
    listeners: list[Listener] = []
    addresses: list[dict[str, Any]] | None = None
    infrastructure: Infrastructure | None = None


class GatewayStatus(msgspec.Struct):
    conditions: list[dict[str, Any]] = []
    addresses: list[dict[str, Any]] = []
    listeners: list[dict[str, Any]] = []


class Gateway(msgspec.Struct):
    metadata: Metadata
    spec: GatewaySpec
    status: GatewayStatus = msgspec.field(default_factory=GatewayStatus)

    @property
    def is_managed(self) -> bool:
        """Whether a waypoint is made for it. Addresses in `spec` are those of a waypoint that somebody else runs."""
        return not self.spec.addresses

    @property
    def parameters_ref(self) -> ParametersRef | None:
        return self.spec.infrastructure.parameters_ref if self.spec.infrastructure is not None else None

    def is_of(self, revision: str) -> bool:
        """Whether the label `istio.io/rev` leaves it to the control plane of this revision."""
        return (self.metadata.labels or {}).get(REVISION_LABEL, revision) == revision

    def waypoint(self) -> Waypoint:
        given = self.spec.infrastructure or Infrastructure()
        its = self.metadata
        return Waypoint(
            its.namespace, its.name, its.uid, self.spec.gateway_class_name, given.labels or {}, given.annotations or {}
        )


class _ClassSpec(msgspec.Struct, rename="camel"):
    controller_name: str


class _ClassStatus(msgspec.Struct):
    conditions: list[dict[str, Any]] = []


class GatewayClass(msgspec.Struct):
    metadata: Metadata
    spec: _ClassSpec
    status: _ClassStatus = msgspec.field(default_factory=_ClassStatus)


class ConfigMap(msgspec.Struct):
    data: dict[str, str] | None = None


gateway_decoder = msgspec.json.Decoder(Gateway)
class_decoder = msgspec.json.Decoder(GatewayClass)
config_map_decoder = msgspec.json.Decoder(ConfigMap)

Live = Mapping[str, Any]
"""An object as the API server has it."""
