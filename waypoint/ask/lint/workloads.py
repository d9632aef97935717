"""Count a service's endpoints: running pods, or those that Deployments and other controllers would create.

Manifests in a repository have controllers but no pods; a dump of a cluster has both. In namespaces with running pods,
only these count; elsewhere, controllers count as their replicas. If nothing is known, nothing is reported.
"""

from collections.abc import Iterable, Mapping

from l4.config.documents import Document
from l4.config.resources import Resources
from l4.discovery.objects import EndpointSlice, Pod
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, usable
from waypoint.ask.templates import Template, templates


class Workloads:
    def __init__(self, documents: Iterable[Document], resources: Resources, registry: Registry) -> None:
        running = [it for it in resources.of(Pod) if it.value.addresses and not it.value.is_over]
        self._running = {it.key.namespace for it in running}
        self._sliced = {it.key.namespace for it in resources.of(EndpointSlice)}
        self._registry = registry
        self._by_label: dict[tuple[str, str, str], list[Template]] = {}
        self._by_namespace: dict[str, list[Template]] = {}
        promised = (it for it in templates(documents) if it.key.namespace not in self._running)
        for template in (*(Template(it.key, it.value.metadata.labels, 1, {}, it.origin) for it in running), *promised):
            namespace = template.key.namespace
            self._by_namespace.setdefault(namespace, []).append(template)
            for label in template.labels.items():
                self._by_label.setdefault((namespace, *label), []).append(template)

    def namespaces(self) -> Iterable[str]:
        """Return the namespaces with workloads."""
        return self._by_namespace.keys()

    def of(self, namespace: str) -> Iterable[Template]:
        return self._by_namespace.get(namespace, ())

    def are_selected(self, namespace: str, selector: Mapping[str, str]) -> bool | None:
        """Whether a Service's selector matches anything, with or without replicas. None if unknown."""
        return bool(self._selected(namespace, selector)) if self.of(namespace) else None

    def endpoints(self, service: Service, selector: Mapping[str, str]) -> int | None:
        """Return the number of endpoints that are or will be ready. None if unknown."""
        ready = len(usable(service.endpoints))
        if ready or service.namespace in self._sliced:
            return ready
        if not selector or not self.of(service.namespace):
            return None
        if service.namespace in self._running:
            return 0
        return sum(template.replicas for template in self._selected(service.namespace, selector))

    def _selected(self, namespace: str, selector: Mapping[str, str]) -> list[Template]:
        first = next(iter(selector.items()), None)
        if first is None:
            return []
        candidates = self._by_label.get((namespace, *first), ())
        return [template for template in candidates if selector.items() <= template.labels.items()]
