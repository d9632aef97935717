"""Which VirtualService is for a service: the oldest that names its host and may be seen from the waypoint's namespace.

A host without dots is a Service of the object's own namespace; `*.example.com` are all hosts below. Routes of the
Gateway API for the same port count before: Istio leaves open what comes of both, so it is told.
"""

from collections.abc import Iterable, Iterator

from l4.config.codes import Code
from l4.config.documents import Problem
from l4.config.resources import Resource
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from policies.opaque import OpaqueRoute
from policies.route import Route
from waypoint.config.clusters import ClusterConfigs
from waypoint.config.report import Report
from waypoint.config.virtual_rules import VirtualRules
from waypoint.config.virtual_service import MESH, VirtualService


class VirtualServices:
    """`namespace` is that of the waypoint."""

    def __init__(
        self,
        resources: Iterable[Resource[VirtualService]],
        registry: Registry,
        clusters: ClusterConfigs,
        namespace: str,
    ) -> None:
        self.problems: list[Problem] = []
        self._registry = registry
        self._clusters = clusters
        self._namespace = namespace
        self._exact: dict[str, list[tuple[Resource[VirtualService], str]]] = {}
        self._wildcards: list[tuple[str, Resource[VirtualService], str]] = []
        for resource in sorted(resources, key=lambda it: (it.value.metadata.creation_timestamp, it.key)):
            self._add(resource)

    def routes(
        self, service: Service, port: ServicePort, *, has_routes: bool
    ) -> tuple[list[Route], list[OpaqueRoute]] | None:
        """What is asked in their order, and for opaque connections; None where no VirtualService is for the service.
        `has_routes`: routes of the Gateway API are attached to the port."""
        found = self._of(service)
        if not found:
            return None
        (resource, field), *others = found
        report = Report(resource)
        for other, place in others:
            sentence = f"the older {resource.key} is for {service.hostname}, and this one has no effect there"
            self.problems.append(Problem(other.origin, str(other.key), place, sentence, Code.POLICY_CONFLICTED))
        if has_routes:
            sentence = (
                f"has no effect on port {port.port}: routes of the Gateway API are attached to {service.hostname}"
            )
            report.tell(field, sentence, Code.POLICY_CONFLICTED)
            self.problems += report.problems
            return None
        spec = resource.value.spec
        rules = VirtualRules(resource.key, self._registry, self._clusters, report, port.port)
        opaque = [*rules.opaque("tls", spec.tls), *rules.opaque("tcp", spec.tcp)]
        routes = list(rules.http(spec.http))
        self.problems += report.problems
        return routes, opaque

    def _add(self, resource: Resource[VirtualService]) -> None:
        spec, namespace = resource.value.spec, resource.key.namespace
        if spec.gateways and MESH not in spec.gateways:
            return
        is_own = namespace == self._namespace
        if spec.export_to and not {"*", self._namespace, "." if is_own else "*"} & set(spec.export_to):
            return
        for index, host in enumerate(spec.hosts):
            field, host = f"spec.hosts[{index}]", host.lower()
            named = self._registry.service_named(namespace, host) if "." not in host else None
            host = named.hostname if named is not None else host
            if host.startswith("*"):
                self._wildcards.append((host[1:], resource, field))
            else:
                self._exact.setdefault(host, []).append((resource, field))
                if host not in self._registry.services:
                    sentence = f"no Service and no ServiceEntry has the host {host}; the routes have no effect there"
                    origin, key = resource.origin, str(resource.key)
                    self.problems.append(Problem(origin, key, field, sentence, Code.PARENT_NOT_FOUND))

    def _of(self, service: Service) -> list[tuple[Resource[VirtualService], str]]:
        """Those for the host itself, else those for hosts below the longest name."""
        if exact := self._exact.get(service.hostname):
            return exact
        fitting = [(suffix, it, field) for suffix, it, field in self._wildcards if service.hostname.endswith(suffix)]
        longest = max((len(suffix) for suffix, _, _ in fitting), default=0)
        return list(_longest(fitting, longest))


def _longest(
    fitting: Iterable[tuple[str, Resource[VirtualService], str]], length: int
) -> Iterator[tuple[Resource[VirtualService], str]]:
    yield from ((resource, field) for suffix, resource, field in fitting if len(suffix) == length)
