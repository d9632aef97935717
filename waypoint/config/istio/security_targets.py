"""Targets of security policies in `targetRefs`: services of the policy's namespace, a waypoint, or a class of
waypoints.

Policies without targetRefs belong to ztunnels; a waypoint applies only policies that name it or its services. A policy
for the GatewayClass applies to all waypoints of the class, and must be in the root namespace.
https://istio.io/latest/docs/reference/config/type/workload-selector/#PolicyTargetReference
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from msgspec import Meta, Struct

from l4.config.codes import DocumentCode
from l4.config.resources import Resource
from l4.discovery.authorization_policy import PolicyTargetRef
from l4.discovery.codes import DiscoveryCode
from l4.discovery.objects import ROOT_NAMESPACE
from l4.discovery.registry import Registry
from l4.discovery.workload import Service
from waypoint.config.api_fields import Group, Kind, Namespace, ObjectName
from waypoint.config.codes import ConfigCode
from waypoint.config.report import Report
from waypoint.config.status import Condition

EVERYTHING = "*"
"""Used instead of a hostname: everything that this waypoint serves."""
_GATEWAY_API = "gateway.networking.k8s.io"
_REASONS = {
    ConfigCode.TARGET_NOT_FOUND: "TargetNotFound",
    DiscoveryCode.POLICY_NOT_ENFORCED: "AncestorNotBound",
    DiscoveryCode.AUTHORIZATION_INVALID: "Invalid",
    DocumentCode.NOT_CARRIED_OUT: "Unsupported",
}


class TargetRef(Struct, frozen=True):
    name: ObjectName
    kind: Kind
    group: Group = ""
    namespace: Namespace | None = None


_Ref = TargetRef | PolicyTargetRef
TargetRefs = Annotated[tuple[TargetRef, ...], Meta(max_length=16)]


class SecurityTargets:
    """Targets of the waypoint `gateway` (namespace, name), whose Gateway has one of `classes`."""

    def __init__(
        self,
        registry: Registry,
        is_ours: Callable[[Service], bool],
        gateway: tuple[str, str],
        classes: frozenset[str],
    ) -> None:
        self._gateway = gateway
        self._classes = classes | {"istio-waypoint"}
        self._hostnames: dict[tuple[str, str, str], list[str]] = {}
        self._ours: set[str] = set()
        self._unbound: set[str] = set()
        for service in registry.services.values():
            if is_ours(service):
                self._ours.add(service.hostname)
            elif service.waypoint is None:
                self._unbound.add(service.hostname)
            kind = "ServiceEntry" if service.is_entry else "Service"
            self._hostnames.setdefault((kind, service.namespace, service.name), []).append(service.hostname)

    def is_ours(self, hostname: str) -> bool:
        """Whether this waypoint applies policies at a target that `of` returned."""
        return hostname == EVERYTHING or hostname in self._ours

    def of(self, resource: Resource[Any], refs: tuple[_Ref, ...], report: Report) -> Iterator[str]:
        """Yield hostnames of the policy's services, and EVERYTHING if it targets this waypoint."""
        if not refs:
            sentence = "has no targets, so no waypoint applies it: add targetRefs"
            report.tell("spec.targetRefs", sentence, ConfigCode.POLICY_NOT_TARGETED)
        for index, ref in enumerate(refs):
            namespace, field = resource.key.namespace, f"spec.targetRefs[{index}]"
            if ref.namespace not in {None, namespace}:
                sentence = f"a policy can target only its own namespace {namespace}: move it to {ref.namespace}"
                report.tell(field, sentence, ConfigCode.TARGET_NOT_FOUND)
                continue
            match ref.group, ref.kind:
                case ("" | "core", "Service") | ("networking.istio.io", "ServiceEntry"):
                    yield from self._services(ref, namespace, field, report)
                case (group, "Gateway") if group == _GATEWAY_API:
                    yield from [EVERYTHING] if (namespace, ref.name) == self._gateway else []
                case (group, "GatewayClass") if group == _GATEWAY_API:
                    yield from self._class(ref, namespace, field, report)
                case _:
                    sentence = f"a policy cannot target {ref.kind} of group {ref.group!r}: use a Service, ServiceEntry,"
                    report.tell(field, f"{sentence} Gateway or GatewayClass", ConfigCode.TARGET_NOT_FOUND)

    def _services(self, ref: _Ref, namespace: str, field: str, report: Report) -> Iterator[str]:
        hostnames = self._hostnames.get((ref.kind, namespace, ref.name), ())
        if not hostnames:
            sentence = f"there is no {ref.kind} {namespace}/{ref.name}; the policy has no effect there"
            report.tell(field, sentence, ConfigCode.TARGET_NOT_FOUND)
        elif self._unbound.issuperset(hostnames):
            sentence = f"{ref.kind} {namespace}/{ref.name} is not bound to a waypoint, so the policy is not applied"
            report.tell(field, f"{sentence}; add the label istio.io/use-waypoint", DiscoveryCode.POLICY_NOT_ENFORCED)
        yield from hostnames

    def _class(self, ref: _Ref, namespace: str, field: str, report: Report) -> Iterator[str]:
        if namespace != ROOT_NAMESPACE:
            sentence = f"a policy for all waypoints of a class must be in the namespace {ROOT_NAMESPACE}"
            report.tell(field, sentence, ConfigCode.TARGET_NOT_FOUND)
        elif ref.name in self._classes:
            yield EVERYTHING


def waypoint_accepted(report: Report) -> Condition:
    """Return istiod's condition of a policy that a waypoint applies."""
    if not report.problems:
        return Condition("WaypointAccepted", True, "Accepted", "the policy is in force")
    sentences = "; ".join(f"{it.field}: {it.sentence}" for it in report.problems)
    return Condition("WaypointAccepted", False, _REASONS.get(report.problems[-1].code, "Invalid"), sentences)
