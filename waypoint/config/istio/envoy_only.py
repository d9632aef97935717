"""Kinds that change Envoy's own configuration: EnvoyFilter, WasmPlugin and TrafficExtension. Our waypoints obey none of
them, and report each one that targets them.

istiod applies them to waypoints by `targetRefs` alone: those without select pods with sidecars, and gateways.
https://istio.io/latest/docs/reference/config/networking/envoy-filter/
"""

from collections.abc import Iterable

from msgspec import Struct

from l4.config.codes import DocumentCode
from l4.config.documents import Problem
from l4.config.resources import Resource
from l4.discovery.objects import Metadata
from waypoint.config.istio.security_targets import SecurityTargets, TargetRef, TargetRefs, waypoint_accepted
from waypoint.config.report import Report
from waypoint.config.status import ConditionsStatus


class EnvoyOnlySpec(Struct, frozen=True, rename="camel"):
    target_ref: TargetRef | None = None
    target_refs: TargetRefs = ()


class EnvoyOnly(Struct, frozen=True):
    metadata: Metadata
    spec: EnvoyOnlySpec = EnvoyOnlySpec()


class EnvoyOnlyPolicies:
    """Problems and statuses of those that target the waypoint or its services."""

    def __init__(self, resources: Iterable[Resource[EnvoyOnly]], targets: SecurityTargets) -> None:
        self.problems: list[Problem] = []
        self.statuses: list[ConditionsStatus] = []
        for resource in resources:
            report = _told(resource, targets)
            if report.problems:
                self.problems += report.problems
                generation = resource.value.metadata.generation
                self.statuses.append(ConditionsStatus(resource.key, generation, (waypoint_accepted(report),)))


def _told(resource: Resource[EnvoyOnly], targets: SecurityTargets) -> Report:
    report, spec, kind = Report(resource), resource.value.spec, resource.key.kind
    fields = {f"spec.targetRefs[{index}]": ref for index, ref in enumerate(spec.target_refs)}
    if spec.target_ref is not None:
        fields["spec.targetRef"] = spec.target_ref
    for field, ref in fields.items():
        # Targets that do not exist are told by istiod, whose kinds these are.
        if any(map(targets.is_ours, targets.of(resource, (ref,), Report(resource)))):
            sentence = f"has no effect at a waypoint of pywaypoint, which is no Envoy: replace the {kind} by routes and"
            report.tell(field, f"{sentence} policies, or keep Istio's waypoint there", DocumentCode.NOT_CARRIED_OUT)
    return report
