"""Attachment of routes: which ports of which services a route object applies to.

A route in the service's namespace is a producer route and applies to all clients. A route in another namespace is a
consumer route and applies to clients of that namespace, in place of producer routes.
https://gateway-api.sigs.k8s.io/geps/gep-1426/
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from l4.config.resources import Resource
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol, Service, ServicePort
from waypoint.config.codes import ConfigCode
from waypoint.config.destinations import Destinations
from waypoint.config.gateway_api.routes import ParentRef
from waypoint.config.report import Report
from waypoint.config.status import Condition

HTTP = frozenset({AppProtocol.HTTP, AppProtocol.HTTP2, AppProtocol.GRPC, AppProtocol.GRPC_WEB, AppProtocol.UNKNOWN})
TCP = frozenset({AppProtocol.TCP, AppProtocol.TLS, AppProtocol.UNKNOWN})
TLS = frozenset({AppProtocol.TLS})

_GATEWAY_API = "gateway.networking.k8s.io"
_GROUPS = {"": "Service", "networking.istio.io": "ServiceEntry"}
"""Kinds of parents by group."""

CARRIED: Mapping[str, frozenset[AppProtocol]] = {
    "HTTPRoute": HTTP,
    "GRPCRoute": HTTP,
    "TCPRoute": TCP,
    "TLSRoute": TLS,
}
"""Protocols of ports to which routes of each kind apply."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A parent that this waypoint serves. `refusal` says why the route applies to none of its ports. `service` is None
    for the waypoint's own Gateway."""

    ref: ParentRef
    service: Service | None
    ports: tuple[ServicePort, ...]
    refusal: Condition | None = None


class Parents:
    """`gateways` are the (namespace, name) of all Gateways, `own` that of this waypoint's."""

    def __init__(
        self,
        registry: Registry,
        clusters: Destinations,
        gateways: Collection[tuple[str, str]] = (),
        own: tuple[str, str] | None = None,
    ) -> None:
        self._registry = registry
        self._own = own
        self._clusters = clusters
        self._gateways = gateways
        self._by_name: dict[tuple[str, str, str], list[Service]] = {}
        for service in registry.services.values():
            kind = "ServiceEntry" if service.is_entry else "Service"
            self._by_name.setdefault((kind, service.namespace, service.name), []).append(service)

    def of(self, resource: Resource[Any], report: Report) -> Iterator[Attachment]:
        """Yield attachments to our services. Other waypoints handle and judge theirs."""
        refs: tuple[ParentRef, ...] = resource.value.spec.parent_refs
        for index, ref in enumerate(refs):
            namespace = ref.namespace or resource.key.namespace
            field = f"spec.parentRefs[{index}]"
            if (ref.group, ref.kind) not in _GROUPS.items():
                if (ref.group, ref.kind) == (_GATEWAY_API, "Gateway") and (namespace, ref.name) == self._own:
                    yield _refused(resource.key.kind, ref, field, report)
                self._tell_misnamed(ref, namespace, field, report)
                continue
            services = self._by_name.get((ref.kind, namespace, ref.name), ())
            if not services:
                sentence = f"there is no {ref.kind} {namespace}/{ref.name}"
                if ref.kind == "Service":
                    sentence = self._registry.why_no_service(namespace, ref.name)
                report.tell(field, f"{sentence}; the route has no effect", ConfigCode.PARENT_NOT_FOUND)
            for service in services:
                if self._clusters.is_ours(service):
                    yield _attachment(resource.key.kind, ref, service, field, report)

    def _tell_misnamed(self, ref: ParentRef, namespace: str, field: str, report: Report) -> None:
        """Report a reference without group and kind, which means a Gateway, if only a Service of that name exists."""
        if ref.kind in _GROUPS.values():
            meant: str | None = ref.kind
        elif (namespace, ref.name) in self._gateways:
            return
        else:
            meant = next((kind for kind in _GROUPS.values() if (kind, namespace, ref.name) in self._by_name), None)
        for group, kind in _GROUPS.items():
            if kind == meant:
                sentence = (
                    f"refers to {ref.kind} {namespace}/{ref.name} of the group {ref.group or 'core'}; "
                    f'to refer to the {kind}, write group: "{group}" and kind: {kind}'
                )
                report.tell(field, sentence, ConfigCode.PARENT_NOT_FOUND)


def _refused(kind: str, ref: ParentRef, field: str, report: Report) -> Attachment:
    """Routes of a waypoint name Services, not its Gateway."""
    sentence = f"{kind} has no effect on the Gateway of a waypoint: refer to the Services behind it"
    report.tell(field, sentence, ConfigCode.PROTOCOL_MISMATCH)
    return Attachment(ref, None, (), Condition("Accepted", False, "NotAllowedByListeners", sentence))


def _attachment(kind: str, ref: ParentRef, service: Service, field: str, report: Report) -> Attachment:
    named = tuple(
        port for port in service.ports if ref.port in {None, port.port} and ref.section_name in {None, port.name}
    )
    fitting = tuple(port for port in named if port.app_protocol in CARRIED[kind])
    if fitting:
        return Attachment(ref, service, fitting)
    if not named:
        wanted = " ".join(str(it) for it in (ref.section_name, ref.port) if it is not None)
        sentence, code = (
            f"Service {service.namespace}/{service.name} has no port {wanted}",
            ConfigCode.PARENT_PORT_NOT_FOUND,
        )
    else:
        carried = ", ".join(f"{port.port} carries {port.app_protocol.value}" for port in named)
        sentence = f"{kind} has no effect there: port {carried}; see the port's appProtocol"
        code = ConfigCode.PROTOCOL_MISMATCH
    report.tell(field, sentence, code)
    return Attachment(ref, service, (), Condition("Accepted", False, "NoMatchingParent", sentence))
