"""Services without endpoints, and ports without a declared protocol."""

from collections.abc import Iterator

from l4.config.documents import Document, Problem
from l4.config.resources import Resource
from l4.discovery.label_names import GATEWAY_NAME
from l4.discovery.objects import ServiceObject
from l4.discovery.ports import app_protocol
from l4.discovery.workload import AppProtocol
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.bindings import ROUTES
from waypoint.ask.lint.subject import Subject, items, mapping, problem


def lint(subject: Subject) -> Iterator[Problem]:
    services = {(it.key.namespace, it.key.name): it for it in subject.resources.of(ServiceObject)}
    for service in services.values():
        yield from _selects_nothing(subject, service)
        yield from _protocols(subject, service)
    for route in subject.of_kind(*ROUTES):
        yield from _backends(subject, route, services)


def _selects_nothing(subject: Subject, service: Resource[ServiceObject]) -> Iterator[Problem]:
    """Services of waypoints are skipped: a controller creates their pods, which are rarely in the files."""
    selector = service.value.spec.selector
    if not selector or GATEWAY_NAME in selector:
        return
    if subject.workloads.are_selected(service.key.namespace, selector) is False:
        sentence = f"no pod of namespace {service.key.namespace} has the labels {_text(selector)}"
        yield Problem(service.origin, str(service.key), "spec.selector", sentence, LintCode.SELECTS_NOTHING)


def _protocols(subject: Subject, service: Resource[ServiceObject]) -> Iterator[Problem]:
    """Only services with a waypoint need a declared protocol."""
    known = subject.registry.service_named(service.key.namespace, service.key.name)
    if known is None or known.waypoint is None:
        return
    for index, port in enumerate(service.value.spec.ports):
        if port.protocol != "TCP" or app_protocol(port) is not AppProtocol.UNKNOWN:
            continue
        if port.app_protocol is not None:
            field, reason = "appProtocol", f"{port.app_protocol} is not supported"
        else:
            field, reason = (
                "name",
                f"neither appProtocol nor the name {port.name!r} declares the protocol of port {port.port}",
            )
        sentence = f"{reason}; it is detected from the first bytes, which fails if the server sends first"
        place = f"spec.ports[{index}].{field}"
        yield Problem(service.origin, str(service.key), place, sentence, LintCode.PORT_NAME_WITHOUT_PROTOCOL)


def _backends(
    subject: Subject, route: Document, services: dict[tuple[str, str], Resource[ServiceObject]]
) -> Iterator[Problem]:
    spec = mapping(route.content.get("spec"))
    for number, rule in items(spec.get("rules")):
        for index, ref in items(rule.get("backendRefs")):
            if (ref.get("group", ""), ref.get("kind", "Service")) != ("", "Service") or ref.get("weight") == 0:
                continue
            namespace, name = str(ref.get("namespace", route.key.namespace)), str(ref.get("name"))
            service, declared = subject.registry.service_named(namespace, name), services.get((namespace, name))
            if service is None or declared is None:
                continue
            if subject.workloads.endpoints(service, declared.value.spec.selector) == 0:
                sentence = f"Service {namespace}/{name} has no ready endpoint; its share gets 503"
                place = f"spec.rules[{number}].backendRefs[{index}]"
                yield problem(route, place, sentence, LintCode.BACKEND_WITHOUT_ENDPOINTS)


def _text(selector: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in selector.items())
