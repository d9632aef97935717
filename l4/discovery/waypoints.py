"""The waypoint in front of a service, or of a pod that is called by its own address.

The object's label `istio.io/use-waypoint` (with `istio.io/use-waypoint-namespace`) decides, else that of its namespace.
`none` opts out. There is no fallback: as in istiod, a label that names an unusable waypoint means no waypoint, and a
problem at the object with the label. A namespace's label applies to services and pods; that its waypoint serves only
one of the two is not a problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

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


class Refusal(Enum):
    """Why the waypoint that a label requests is not used."""

    NO_GATEWAY = auto()
    OTHER_TRAFFIC = auto()
    NOT_ALLOWED = auto()
    NO_ADDRESS = auto()


@dataclass(frozen=True, slots=True)
class Binding:
    """What comes of a label: the waypoint's address, or why it is not used. `gateway` is (namespace, name)."""

    gateway: tuple[str, str]
    address: GatewayAddress | None = None
    refusal: Refusal | None = None
    sentence: str = ""


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

    def judge_service(self, service: Resource[ServiceObject]) -> Binding | None:
        """Return what comes of the label of a service or its namespace, or None if neither requests a waypoint."""
        wish = self._wish(service, service.value.metadata.labels)
        return self._judge(service.key.namespace, wish, "service") if wish is not None else None

    def _bound(self, resource: _Bindable, labels: Mapping[str, str], traffic: str) -> GatewayAddress | None:
        wish = self._wish(resource, labels)
        binding = self._judge(resource.key.namespace, wish, traffic) if wish is not None else None
        if wish is None or binding is None or binding.address is not None:
            return binding.address if binding is not None else None
        field = f"metadata.labels[{USE_WAYPOINT}]"
        self._problems[resource.key] = Problem(
            wish.origin, wish.subject, field, binding.sentence, DiscoveryCode.WAYPOINT_NOT_USED
        )
        return None

    def _judge(self, client: str, wish: _Wish, traffic: str) -> Binding | None:
        """Judge a label. `client` is the namespace of the object that is to be bound."""
        named = (wish.namespace, wish.name)
        gateway = self._gateways.get(named)
        if gateway is None:
            refusal, reason = Refusal.NO_GATEWAY, "the Gateway does not exist"
        elif (serves := self._serves(gateway)) not in {traffic, "all"}:
            if wish.is_inherited:
                return None
            refusal, reason = Refusal.OTHER_TRAFFIC, f"it serves {serves} traffic, not {traffic} traffic"
        elif client != wish.namespace and not self._allows(gateway, client):
            refusal = Refusal.NOT_ALLOWED
            reason = f"the allowedRoutes of its HBONE listener do not allow namespace {client}"
        elif (address := _address(gateway)) is not None:
            return Binding(named, replace(address, bound_by=wish.subject))
        else:
            refusal, reason = Refusal.NO_ADDRESS, "it has no address in its status yet"
        sentence = f"waypoint {wish.namespace}/{wish.name} is not used: {reason}; traffic bypasses it"
        return Binding(named, None, refusal, sentence)

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
