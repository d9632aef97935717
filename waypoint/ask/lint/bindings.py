"""Unused waypoints: routes and policies without a waypoint, waypoints and labels without users.

Waypoints that share a Service are looked at in `canaries`.
"""

from collections.abc import Iterator

from l4.config.documents import Document, Problem
from l4.config.resources import Resource
from l4.discovery.label_names import (
    DATAPLANE_MODE,
    USE_WAYPOINT,
    USE_WAYPOINT_CANARY,
    USE_WAYPOINT_CANARY_NAMESPACE,
    USE_WAYPOINT_NAMESPACE,
    WAYPOINT_FOR,
)
from l4.discovery.objects import Gateway
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject, items, labels, mapping, problem
from waypoint.config.istio.virtual_service import MESH, VirtualService
from waypoint.config.ours.attached import ATTACHED

ROUTES = ("HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute")
POLICIES = tuple(it.name for it in ATTACHED)
_LABELLED = ("Namespace", "Service", "ServiceEntry", "Pod", "WorkloadEntry")


def lint(subject: Subject) -> Iterator[Problem]:
    for document in subject.of_kind(*ROUTES):
        yield from _without_waypoint(subject, document, "parentRefs")
    for document in subject.of_kind(*POLICIES):
        yield from _without_waypoint(subject, document, "targetRefs")
    for resource in subject.resources.of(VirtualService):
        yield from _virtual_without_waypoint(subject, resource)
    yield from _unused_waypoints(subject)
    for document in subject.of_kind("Namespace", "Service", "ServiceEntry"):
        yield from _outside_the_mesh(subject, document)


def _without_waypoint(subject: Subject, attached: Document, field: str) -> Iterator[Problem]:
    spec = mapping(attached.content.get("spec"))
    for index, ref in items(spec.get(field)):
        if (ref.get("group"), ref.get("kind")) != ("", "Service"):
            continue
        namespace, name = str(ref.get("namespace", attached.key.namespace)), str(ref.get("name"))
        service = subject.registry.service_named(namespace, name)
        if service is None or service.waypoint is not None:
            continue
        sentence = f"has no effect: Service {namespace}/{name} has no waypoint; "
        sentence += _remedy(subject, namespace, name)
        yield problem(attached, f"spec.{field}[{index}]", sentence, LintCode.ROUTE_WITHOUT_WAYPOINT)


def _virtual_without_waypoint(subject: Subject, resource: Resource[VirtualService]) -> Iterator[Problem]:
    spec = resource.value.spec
    for index, host in enumerate(spec.hosts if not spec.gateways or MESH in spec.gateways else ()):
        service = subject.service_of(resource.key.namespace, host)
        if service is not None and service.waypoint is None and not service.is_entry:
            remedy = _remedy(subject, service.namespace, service.name)
            sentence = f"has no effect on {service.hostname}, which has no waypoint; {remedy}"
            field, origin = f"spec.hosts[{index}]", resource.origin
            yield Problem(origin, str(resource.key), field, sentence, LintCode.ROUTE_WITHOUT_WAYPOINT)


def _remedy(subject: Subject, namespace: str, name: str) -> str:
    """Return the remedy. If there is a label already, its own problem is reported elsewhere."""
    owner = subject.namespace(namespace)
    for labelled in (subject.named("Service", namespace, name), owner):
        value = labels(labelled).get(USE_WAYPOINT) if labelled is not None else None
        if labelled is not None and value is not None:
            label = f"the label {USE_WAYPOINT}: {value} of {labelled.key}"
            return (
                f"{label} disables it"
                if value == "none"
                else f"{label} names an unusable waypoint; see the problem of that label"
            )
    unknown = f" (Namespace {namespace} is not in these files, so its labels are unknown)"
    return f"add the label {USE_WAYPOINT}: GATEWAY to it or its namespace" + (unknown if owner is None else "")


def _unused_waypoints(subject: Subject) -> Iterator[Problem]:
    used: set[tuple[str, str]] = set()
    for document in subject.of_kind(*_LABELLED):
        own = labels(document)
        namespace = document.key.namespace or document.key.name
        for label, where in (
            (USE_WAYPOINT, USE_WAYPOINT_NAMESPACE),
            (USE_WAYPOINT_CANARY, USE_WAYPOINT_CANARY_NAMESPACE),
        ):
            if label in own:
                used.add((own.get(where, namespace), own[label]))
    for resource in subject.resources.of(Gateway):
        gateway, key = resource.value, resource.key
        is_waypoint = any(listener.protocol == "HBONE" for listener in gateway.spec.listeners)
        is_for_nothing = gateway.metadata.labels.get(WAYPOINT_FOR) == "none"
        if is_waypoint and not is_for_nothing and (key.namespace, key.name) not in used:
            sentence = (
                f"no {USE_WAYPOINT} label names this waypoint, so it gets no traffic; add the label to a namespace"
            )
            yield Problem(resource.origin, str(key), "", sentence, LintCode.WAYPOINT_WITHOUT_SERVICES)


def _outside_the_mesh(subject: Subject, document: Document) -> Iterator[Problem]:
    """Nothing is reported for a namespace whose object is not among the files."""
    if labels(document).get(USE_WAYPOINT, "none") == "none":
        return
    name = document.key.namespace or document.key.name
    namespace = subject.namespace(name)
    if namespace is None or is_enrolled(namespace):
        return
    sentence = (
        f"clients in namespace {name} bypass the waypoint, because they are not in the mesh; label the namespace "
        f"{DATAPLANE_MODE}: ambient"
    )
    yield problem(document, f"metadata.labels[{USE_WAYPOINT}]", sentence, LintCode.ENROLLED_WITHOUT_MESH)


def is_enrolled(namespace: Document) -> bool:
    return labels(namespace).get(DATAPLANE_MODE) == "ambient"
