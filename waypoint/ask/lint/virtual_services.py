"""VirtualServices with an ambiguous destination: a Service with several ports, but no port given."""

from collections.abc import Iterator

from l4.config.documents import Problem
from waypoint.ask.codes import LintCode
from waypoint.ask.lint.subject import Subject
from waypoint.config.istio.virtual_service import Destination, VirtualService


def lint(subject: Subject) -> Iterator[Problem]:
    for resource in subject.resources.of(VirtualService):
        for field, destination in _destinations(resource.value):
            service = subject.service_of(resource.key.namespace, destination.host)
            if destination.port is None and service is not None and len(service.ports) > 1:
                ports = ", ".join(str(port.port) for port in service.ports)
                sentence = (
                    f"{service.hostname} has the ports {ports}; without a port here, each request goes to the port it "
                    "was sent to; add port"
                )
                yield Problem(resource.origin, str(resource.key), field, sentence, LintCode.PORT_NOT_CHOSEN)


def _destinations(virtual: VirtualService) -> Iterator[tuple[str, Destination]]:
    spec = virtual.spec
    for index, http in enumerate(spec.http):
        place = f"spec.http[{index}]"
        yield from ((f"{place}.route[{n}].destination", it.destination) for n, it in enumerate(http.route))
        yield from ((f"{place}.mirrors[{n}].destination", it.destination) for n, it in enumerate(http.mirrors))
        if http.mirror is not None:
            yield f"{place}.mirror", http.mirror
    opaque = [(f"spec.tls[{n}]", it.route) for n, it in enumerate(spec.tls)]
    opaque += [(f"spec.tcp[{n}]", it.route) for n, it in enumerate(spec.tcp)]
    for place, route in opaque:
        yield from ((f"{place}.route[{n}].destination", it.destination) for n, it in enumerate(route))
