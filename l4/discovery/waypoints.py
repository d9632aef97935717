"""The waypoint in front of a service, or of a pod that is called by its own address.

The object's label `istio.io/use-waypoint` (with `istio.io/use-waypoint-namespace`) decides, else that of its namespace.
`none` opts out. There is no fallback: as in istiod, a label that names an unusable waypoint means no waypoint, and a
problem at the object with the label. A namespace's label applies to services and pods; that its waypoint serves only
one of the two is not a problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from l4.config.documents import ObjectKey, Origin, Problem
from l4.config.resources import Resource, Resources
from l4.discovery.codes import DiscoveryCode
from l4.discovery.label_names import GATEWAY_NAME, MANAGED, USE_WAYPOINT, USE_WAYPOINT_NAMESPACE, WAYPOINT_FOR
from l4.discovery.objects import Gateway, GatewayClass, NamespaceObject, Pod, ServiceObject, canonical_ip
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry
from l4.discovery.workload import GatewayAddress, Workload

_Bindable = Resource[ServiceObject] | Resource[ServiceEntry] | Resource[Pod] | Resource[WorkloadEntry]


@dataclass(frozen=True, slots=True)
class _Wish:
    """The waypoint that a label requests, and the label's object."""

    namespace: str
    name: str
    subject: str
    origin: Origin
    is_inherited: bool


class Bindings:
    """Finds waypoints. `problems` are those of all bindings requested so far."""

    def __init__(self, resources: Resources) -> None:
        self._problems: dict[ObjectKey, Problem] = {}
        self._gateways = {(it.key.namespace, it.key.name): it.value for it in resources.of(Gateway)}
        self._classes = {it.key.name: it.value for it in resources.of(GatewayClass)}
        self._namespaces = {it.key.name: it for it in resources.of(NamespaceObject)}

    @property
    def problems(self) -> set[Problem]:
        return set(self._problems.values())

    def forget(self, key: ObjectKey) -> Problem | None:
        """Forget a removed or changed object. Returns its problem, if it had one."""
        return self._problems.pop(key, None)

    def problem(self, key: ObjectKey) -> Problem | None:
        return self._problems.get(key)

    def of_service(self, service: Resource[ServiceObject]) -> GatewayAddress | None:
        return self._bound(service, service.value.metadata.labels, "service")

    def of_entry(self, entry: Resource[ServiceEntry]) -> GatewayAddress | None:
        return self._bound(entry, entry.value.metadata.labels, "service")

    def of_workload(
        self, workload: Resource[Pod] | Resource[WorkloadEntry], labels: Mapping[str, str]
    ) -> GatewayAddress | None:
        """Return the workload's waypoint. `labels` are given separately, because WorkloadEntries have two sets."""
        return self._bound(workload, labels, "workload")

    def _bound(self, resource: _Bindable, labels: Mapping[str, str], traffic: str) -> GatewayAddress | None:
        wish = self._wish(resource, labels)
        if wish is None:
            return None
        client = resource.key.namespace
        gateway = self._gateways.get((wish.namespace, wish.name))
        if gateway is None:
            reason = "the Gateway does not exist"
        elif (serves := self._serves(gateway)) not in {traffic, "all"}:
            if wish.is_inherited:
                return None
            reason = f"it serves {serves} traffic, not {traffic} traffic"
        elif client != wish.namespace and not self._allows(gateway, client):
            reason = f"the allowedRoutes of its HBONE listener do not allow namespace {client}"
        elif (address := _address(gateway)) is not None:
            return replace(address, bound_by=wish.subject)
        else:
            reason = "it has no address in its status yet"
        sentence = f"waypoint {wish.namespace}/{wish.name} is not used: {reason}; traffic bypasses it"
        field = f"metadata.labels[{USE_WAYPOINT}]"
        self._problems[resource.key] = Problem(
            wish.origin, wish.subject, field, sentence, DiscoveryCode.WAYPOINT_NOT_USED
        )
        return None

    def _wish(self, resource: _Bindable, labels: Mapping[str, str]) -> _Wish | None:
        own = resource.key.namespace
        if GATEWAY_NAME in labels or MANAGED in labels:
            return None  # a waypoint has no waypoint
        level: _Bindable | Resource[NamespaceObject] | None = resource
        if USE_WAYPOINT not in labels:
            level = self._namespaces.get(own)
            labels = level.value.metadata.labels if level is not None else {}
        if level is None:
            return None
        name = labels.get(USE_WAYPOINT, "none")
        if name == "none":
            return None
        namespace = labels.get(USE_WAYPOINT_NAMESPACE, own)
        return _Wish(namespace, name, str(level.key), level.origin, is_inherited=level is not resource)

    def _serves(self, gateway: Gateway) -> str:
        """The traffic that the waypoint serves: `service`, `workload`, `all` or `none`."""
        of_class = self._classes.get(gateway.spec.gateway_class_name)
        default = of_class.metadata.labels.get(WAYPOINT_FOR, "service") if of_class else "service"
        return gateway.metadata.labels.get(WAYPOINT_FOR, default)

    def _allows(self, gateway: Gateway, namespace: str) -> bool:
        known = self._namespaces.get(namespace)
        labels = {**(known.value.metadata.labels if known else {}), "kubernetes.io/metadata.name": namespace}
        return any(
            it.protocol == "HBONE" and it.allowed_routes.namespaces.allow(labels) for it in gateway.spec.listeners
        )


def _address(gateway: Gateway) -> GatewayAddress | None:
    """Return the Gateway's hostname if it has one, as istiod prefers, else its first IP address."""
    namespace, name = gateway.metadata.namespace, gateway.metadata.name
    by_type = {address.type: address.value for address in reversed(gateway.status.addresses)}
    if "Hostname" in by_type:
        return GatewayAddress(hostname=by_type["Hostname"], namespace=namespace, gateway=name)
    if "IPAddress" in by_type:
        return GatewayAddress(ip=canonical_ip(by_type["IPAddress"]), namespace=namespace, gateway=name)
    return None


def serves(workload: Workload, gateway: tuple[str, str]) -> bool:
    """Whether the workload is a pod of the Gateway, which is (namespace, name)."""
    return (workload.namespace, workload.labels.get(GATEWAY_NAME)) == gateway
