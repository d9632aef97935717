"""Input of the lints: the original objects, and the mesh and waypoints compiled from them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from l4.config.codes import Code
from l4.config.documents import Document, Problem
from l4.config.resources import Resources
from l4.discovery.registry import Registry
from l4.discovery.workload import Service
from policies.opaque import OpaqueTable
from policies.route import OrderedTable, RouteTable, Rule, RuleSource
from waypoint.ask.lint.workloads import Workloads
from waypoint.config.snapshot import Destination, Snapshot


class Subject:
    """The objects to lint. `snapshots` are those of all waypoints.

    Many kinds are only linted and never compiled. They are plain values, in which anything may be missing or of a wrong
    type.
    """

    def __init__(
        self,
        documents: Iterable[Document],
        resources: Resources,
        registry: Registry,
        snapshots: Iterable[Snapshot],
    ) -> None:
        self.documents = tuple(documents)
        self.resources = resources
        self.registry = registry
        self.snapshots = tuple(snapshots)
        self.workloads = Workloads(self.documents, resources, registry)
        self._by_kind: dict[str, list[Document]] = {}
        self._by_name: dict[tuple[str, str, str], Document] = {}
        for document in self.documents:
            key = document.key
            self._by_kind.setdefault(key.kind, []).append(document)
            self._by_name[key.kind, key.namespace, key.name] = document

    def of_kind(self, *kinds: str) -> Iterator[Document]:
        for kind in kinds:
            yield from self._by_kind.get(kind, ())

    def named(self, kind: str, namespace: str, name: str) -> Document | None:
        return self._by_name.get((kind, namespace, name))

    def namespace(self, name: str) -> Document | None:
        return self.named("Namespace", "", name)

    def service_of(self, namespace: str, host: str) -> Service | None:
        """Return the service for a host in an Istio object: a hostname, or a Service's short name in its namespace."""
        if "." not in host:
            return self.registry.service_named(namespace, host)
        return self.registry.services.get(host.lower())

    def ordered_tables(self) -> Iterator[OrderedTable]:
        for destination in self.destinations():
            for table in (destination.routes, *destination.consumer_routes.values()):
                if isinstance(table, OrderedTable):
                    yield table

    def tables(self) -> Iterator[tuple[Destination, RouteTable]]:
        """Yield each table with precedence once, with one of its destinations."""
        for destination in self.destinations():
            for table in (destination.routes, *destination.consumer_routes.values()):
                if isinstance(table, RouteTable):
                    yield destination, table

    def opaque_tables(self) -> Iterator[OpaqueTable]:
        for destination in self.destinations():
            yield from (destination.opaque, *destination.consumer_opaque.values())

    def rules(self) -> Mapping[RuleSource, Rule]:
        """Return each compiled rule once, without default routes."""
        of_http = (route.rule for _, table in self.tables() for route in table.routes)
        opaque = (route.rule for table in self.opaque_tables() for route in table.routes)
        return {rule.source: rule for rule in (*of_http, *opaque) if rule.source is not None}

    def destinations(self) -> Iterator[Destination]:
        """Yield each destination once, though a service has an entry per address."""
        for snapshot in self.snapshots:
            yield from {id(destination): destination for destination in snapshot.destinations.values()}.values()

    def problem_of_rule(self, source: RuleSource, field: str, sentence: str, code: Code) -> Iterator[Problem]:
        """Yield a problem of a rule. `field` is relative to the rule."""
        document = self.named(source.kind, source.namespace, source.name)
        if document is not None:
            place = f"spec.{source.section}[{source.index}]{field and '.'}{field}"
            yield problem(document, place, sentence, code)


def problem(document: Document, field: str, sentence: str, code: Code) -> Problem:
    return Problem(document.origin, str(document.key), field, sentence, code)


def labels(document: Document) -> Mapping[str, str]:
    found = mapping(mapping(document.content.get("metadata")).get("labels"))
    return {str(name): str(value) for name, value in found.items()}


def mapping(value: object) -> Mapping[str, Any]:
    """Return the value if it is a mapping, else an empty mapping."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield a list's mappings with their indexes; nothing if it is not a list."""
    if isinstance(value, list):
        yield from ((index, mapping(item)) for index, item in enumerate(value))
