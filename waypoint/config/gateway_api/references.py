"""Resolve a backendRef to a port of a Service or of a ServiceEntry's host, if the reference is allowed.

A reference to another namespace needs no ReferenceGrant, because clients in a mesh can reach that namespace anyway
(GEP-1294). The setting `requires_reference_grants` demands one, as behind a Gateway.
https://gateway-api.sigs.k8s.io/geps/gep-1294/
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from l4.config.codes import Code
from l4.config.documents import ObjectKey
from l4.config.resources import Resource
from l4.discovery.registry import Registry
from l4.discovery.workload import Service
from policies.attributes import ClusterName
from waypoint.config.codes import ConfigCode
from waypoint.config.destinations import Destinations
from waypoint.config.gateway_api.reference_grant import ReferenceGrant


class Reference(Protocol):
    """The API's BackendObjectReference."""

    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def port(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Unresolved:
    """`field` is the faulty part of the reference; `reason` is that of the condition ResolvedRefs."""

    field: str
    sentence: str
    code: Code
    reason: str


class References:
    def __init__(
        self,
        registry: Registry,
        clusters: Destinations,
        grants: Iterable[Resource[ReferenceGrant]],
        *,
        requires_grants: bool,
    ) -> None:
        self._registry = registry
        self._clusters = clusters
        self._grants = list(grants)
        self._requires_grants = requires_grants

    def resolve(self, source: ObjectKey, reference: Reference) -> ClusterName | Unresolved:
        """Return the cluster of an object's reference."""
        found = self._service(source, reference)
        if isinstance(found, Unresolved):
            return found
        port = found.port(reference.port)
        return self._clusters.of(found, port) if port is not None else _no_such_port(found, reference)

    def _service(self, source: ObjectKey, reference: Reference) -> Service | Unresolved:
        match reference.group, reference.kind:
            case "", "Service":
                namespace = reference.namespace or source.namespace
                named = self._registry.service_named(namespace, reference.name)
                if named is None:
                    sentence = self._registry.why_no_service(namespace, reference.name)
                    return Unresolved("name", sentence, ConfigCode.BACKEND_NOT_FOUND, "BackendNotFound")
                if self._requires_grants and namespace != source.namespace and not self._grant(source, named):
                    return _not_granted(source, named)
                return named
            case "networking.istio.io", "Hostname" | "ServiceEntry":
                by_host = self._registry.visible(reference.name, source.namespace)
                if by_host is None:
                    sentence = self._registry.why_no_host(reference.name)
                    return Unresolved("name", sentence, ConfigCode.BACKEND_NOT_FOUND, "BackendNotFound")
                return by_host
        sentence = f"{reference.group or 'core'}/{reference.kind} is not a supported kind of backend"
        return Unresolved("kind", sentence, ConfigCode.BACKEND_KIND_UNKNOWN, "InvalidKind")

    def _grant(self, source: ObjectKey, target: Service) -> bool:
        return any(
            grant.key.namespace == target.namespace
            and grant.value.permits(source.group, source.kind, source.namespace, "", "Service", target.name)
            for grant in self._grants
        )


def _not_granted(source: ObjectKey, target: Service) -> Unresolved:
    sentence = (
        f"Service {target.namespace}/{target.name} may not be used from namespace {source.namespace} without a "
        f"ReferenceGrant in {target.namespace}"
    )
    return Unresolved("namespace", sentence, ConfigCode.REFERENCE_NOT_PERMITTED, "RefNotPermitted")


def _no_such_port(service: Service, reference: Reference) -> Unresolved:
    ports = ", ".join(str(port.port) for port in service.ports) or "none"
    if reference.port is None:
        sentence = f"is missing; {service.hostname} has the ports {ports}"
    else:
        sentence = f"{service.hostname} has no port {reference.port}; its ports are {ports}"
    return Unresolved("port", sentence, ConfigCode.BACKEND_NOT_FOUND, "BackendNotFound")
