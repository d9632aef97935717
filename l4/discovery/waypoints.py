"""The waypoint in front of a service, or of a pod that is called by its own address.

The object's label `istio.io/use-waypoint` (with `istio.io/use-waypoint-namespace`) decides, else that of its namespace.
`none` opts out. There is no fallback: as in istiod, a label that names an unusable waypoint means no waypoint, and a
problem at the object with the label. A namespace's label applies to services and pods; that its waypoint serves only
one of the two is not a problem.

The label `istio.io/use-waypoint-canary` gives a service a second waypoint, for the percentage of connections in the
annotation `istio.io/use-waypoint-canary-weight`, which is 0 without it. The namespace's applies where the namespace's
waypoint does. A canary that cannot be used leaves all connections to the waypoint.
https://github.com/istio/istio/issues/60801
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from l4.config.documents import ObjectKey, Origin, Problem
from l4.config.resources import Resource, Resources
from l4.discovery.codes import DiscoveryCode
from l4.discovery.label_names import (
    GATEWAY_NAME,
    MANAGED,
    USE_WAYPOINT,
    USE_WAYPOINT_CANARY,
    USE_WAYPOINT_CANARY_NAMESPACE,
    USE_WAYPOINT_NAMESPACE,
    WAYPOINT_FOR,
)
from l4.discovery.labels import application_tunnel
from l4.discovery.objects import Gateway, GatewayClass, Metadata, NamespaceObject, Pod, ServiceObject, canonical_ip
from l4.discovery.service_entry import ServiceEntry, WorkloadEntry
from l4.discovery.workload import ApplicationTunnel, GatewayAddress, WaypointShare, Workload

_Callable = Resource[ServiceObject] | Resource[ServiceEntry]
_Bindable = _Callable | Resource[Pod] | Resource[WorkloadEntry]
_Level = _Bindable | Resource[NamespaceObject]
_CANARY_WEIGHT = f"{USE_WAYPOINT_CANARY}-weight"
_BINDING = "ambient.istio.io/waypoint-inbound-binding"
_WEIGHT = re.compile(r"0*([0-9]{1,2}|100)")


@dataclass(frozen=True, slots=True)
class _Wish:
    """The waypoint that a label requests, and the label's object. `percent` is a canary's; None is an invalid one."""

    namespace: str
    name: str
    label: str
    subject: str
    origin: Origin
    is_inherited: bool
    percent: int | None = 0


class Refusal(Enum):
    """Why the waypoint that a label requests is not used."""

    NO_GATEWAY = auto()
    OTHER_TRAFFIC = auto()
    NOT_ALLOWED = auto()
    NO_ADDRESS = auto()
    NO_WEIGHT = auto()
    SAME = auto()


@dataclass(frozen=True, slots=True)
class Binding:
    """What comes of a label: the waypoint's address, or why it is not used. `gateway` is (namespace, name)."""

    gateway: tuple[str, str]
    address: GatewayAddress | None = None
    refusal: Refusal | None = None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class ServiceBinding:
    """What comes of the labels of a service: its waypoint, and the waypoint's canary with its percentage."""

    first: Binding
    canary: Binding | None = None
    percent: int = 0

    @property
    def shares(self) -> tuple[WaypointShare, ...]:
        if self.first.address is None or self.canary is None or self.canary.address is None:
            return ()
        rest = WaypointShare(self.first.address, 100 - self.percent)
        return rest, WaypointShare(self.canary.address, self.percent)


@dataclass(frozen=True, slots=True)
class Bound:
    """The waypoints of a service: fields of `Service`."""

    waypoint: GatewayAddress | None = None
    shares: tuple[WaypointShare, ...] = ()


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

    def of_service(self, service: _Callable) -> Bound:
        wish = self._wish(service, service.value.metadata.labels)
        found = self._judge_service(service, wish) if wish is not None else None
        if wish is None or found is None:
            return Bound()
        self._tell(service, wish, found.first, DiscoveryCode.WAYPOINT_NOT_USED)
        canary = self._canary_wish(service, wish)
        if canary is not None and found.canary is not None:
            self._tell(service, canary, found.canary, DiscoveryCode.CANARY_NOT_USED)
        return Bound(found.first.address, found.shares)

    def of_workload(
        self, workload: Resource[Pod] | Resource[WorkloadEntry], labels: Mapping[str, str]
    ) -> GatewayAddress | None:
        """Return the workload's waypoint. `labels` are given separately, because WorkloadEntries have two sets."""
        wish = self._wish(workload, labels)
        found = self._judge(workload.key.namespace, wish, "workload") if wish is not None else None
        if wish is None or found is None:
            return None
        self._tell(workload, wish, found, DiscoveryCode.WAYPOINT_NOT_USED)
        return found.address

    def tunnel_of_pod(self, pod: Metadata) -> ApplicationTunnel | None:
        """Return how a waypoint's pod takes connections from its ztunnel, if its Gateway or the class says so."""
        gateway = self._gateways.get((pod.namespace, pod.labels.get(GATEWAY_NAME, "")))
        if gateway is None:
            return None
        of_class = self._classes.get(gateway.spec.gateway_class_name)
        levels = (gateway.metadata.annotations, of_class.metadata.annotations if of_class is not None else {})
        return next((application_tunnel(it[_BINDING]) for it in levels if _BINDING in it), None)

    def judge_service(self, service: Resource[ServiceObject]) -> ServiceBinding | None:
        """Return what comes of the labels of a service and its namespace, or None if none requests a waypoint."""
        wish = self._wish(service, service.value.metadata.labels)
        return self._judge_service(service, wish) if wish is not None else None

    def _judge_service(self, service: _Callable, wish: _Wish) -> ServiceBinding | None:
        first = self._judge(service.key.namespace, wish, "service")
        if first is None or first.address is None:
            return ServiceBinding(first) if first is not None else None
        canary = self._canary_wish(service, wish)
        if canary is None:
            return ServiceBinding(first)
        return ServiceBinding(first, self._judge_canary(service, wish, canary), canary.percent or 0)

    def _judge_canary(self, service: _Callable, wish: _Wish, canary: _Wish) -> Binding:
        named = (canary.namespace, canary.name)
        if named == (wish.namespace, wish.name):
            refusal, reason = Refusal.SAME, "it is the waypoint itself"
        elif canary.percent is None:
            refusal, reason = (
                Refusal.NO_WEIGHT,
                f"its weight, the annotation {_CANARY_WEIGHT}, is not between 0 and 100",
            )
        else:
            found = self._judge(service.key.namespace, replace(canary, is_inherited=False), "service")
            assert found is not None
            return found
        return Binding(named, None, refusal, _sentence(canary, reason))

    def _tell(self, resource: _Bindable, wish: _Wish, binding: Binding, code: DiscoveryCode) -> None:
        if binding.refusal is not None:
            field = f"metadata.labels[{wish.label}]"
            self._problems[resource.key] = Problem(wish.origin, wish.subject, field, binding.sentence, code)

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
        return Binding(named, None, refusal, _sentence(wish, reason))

    def _wish(self, resource: _Bindable, labels: Mapping[str, str]) -> _Wish | None:
        own = resource.key.namespace
        if GATEWAY_NAME in labels or MANAGED in labels:
            return None  # a waypoint has no waypoint
        level: _Level | None = resource
        if USE_WAYPOINT not in labels:
            level = self._namespaces.get(own)
            labels = level.value.metadata.labels if level is not None else {}
        if level is None:
            return None
        name = labels.get(USE_WAYPOINT, "none")
        if name == "none":
            return None
        namespace = labels.get(USE_WAYPOINT_NAMESPACE, own)
        return _Wish(namespace, name, USE_WAYPOINT, str(level.key), level.origin, is_inherited=level is not resource)

    def _canary_wish(self, service: _Callable, first: _Wish) -> _Wish | None:
        levels: list[_Level] = [service]
        if first.is_inherited:
            levels.append(self._namespaces[service.key.namespace])
        level = next((it for it in levels if USE_WAYPOINT_CANARY in it.value.metadata.labels), service)
        labels = level.value.metadata.labels
        name = labels.get(USE_WAYPOINT_CANARY, "none")
        if name in ("", "none"):
            return None
        namespace = labels.get(USE_WAYPOINT_CANARY_NAMESPACE, service.key.namespace)
        weights = (it.value.metadata.annotations.get(_CANARY_WEIGHT) for it in levels)
        weight = _WEIGHT.fullmatch(next((it for it in weights if it is not None), "0"))
        percent = int(weight[1]) if weight is not None else None
        is_inherited = level is not service
        return _Wish(namespace, name, USE_WAYPOINT_CANARY, str(level.key), level.origin, is_inherited, percent)

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


def _sentence(wish: _Wish, reason: str) -> str:
    if wish.label == USE_WAYPOINT_CANARY:
        return f"canary {wish.namespace}/{wish.name} is not used: {reason}; all traffic goes to the waypoint"
    return f"waypoint {wish.namespace}/{wish.name} is not used: {reason}; traffic bypasses it"


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
