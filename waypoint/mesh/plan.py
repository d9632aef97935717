"""Plan the laptop mesh from the manifests: pods and waypoints with their addresses and identities. Pure.

The plan is made again after each edit, with the previous addresses as input, so that addresses are stable. What cannot
run (an image without a program, a Gateway of another class) becomes a problem, and the rest runs without it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4.config.documents import ObjectKey, Problem
from l4.config.resources import Resource, Resources
from l4.discovery.label_names import DATAPLANE_MODE, GATEWAY_NAME, MANAGED, TUNNEL
from policies.attributes import Identity
from waypoint.ask.codes import LaptopCode
from waypoint.mesh.addresses import Addresses
from waypoint.mesh.environment import needs_cluster
from waypoint.mesh.ingress import Ingress
from waypoint.mesh.manifests import BarePod, Gateway, PodSet, Service
from waypoint.mesh.pods import Pod, images_without_program, pod_keys, replicas
from waypoint.mesh.programs import Program

Source = Resource[PodSet] | Resource[BarePod]
"""An object that pods are created from."""

WAYPOINT_CLASSES = ("pywaypoint", "istio-waypoint")
INGRESS = "ingress"
ZTUNNEL = "ztunnel"


@dataclass(frozen=True, slots=True)
class Waypoint:
    """The waypoint of one Gateway: the address of its Service, and its pod."""

    gateway: ObjectKey
    address: str
    pod: Pod


@dataclass(frozen=True, slots=True)
class Mesh:
    addresses: Addresses = field(default_factory=Addresses)
    services: Mapping[ObjectKey, str] = field(default_factory=dict)
    """Addresses of the Services that have none of their own."""
    reachable: tuple[tuple[Service, str], ...] = ()
    """Every Service with an address, and the address."""
    pods: tuple[Pod, ...] = ()
    ingresses: tuple[Pod, ...] = ()
    waypoints: tuple[Waypoint, ...] = ()
    problems: tuple[Problem, ...] = ()
    unserved: tuple[str, ...] = ()
    """A sentence for each ingress whose Service or port does not exist."""

    @property
    def ztunnel_address(self) -> str:
        """Address of the ztunnel's operator ports. It has no pod, and accepts connections on its pods' addresses."""
        return self.addresses.pods[ZTUNNEL]

    @property
    def identities(self) -> frozenset[Identity]:
        waypoints = (waypoint.pod for waypoint in self.waypoints)
        return frozenset(pod.identity for pod in (*self.pods, *self.ingresses, *waypoints))


def plan(resources: Resources, programs: Sequence[Program], ingresses: Sequence[Ingress], earlier: Addresses) -> Mesh:
    """Raises AddressesExhausted."""
    services = [it for it in resources.of(Service) if it.value.has_address]
    gateways = [it.key for it in resources.of(Gateway) if it.value.spec.gateway_class_name in WAYPOINT_CLASSES]
    sources, problems = _sources(resources, programs)
    keys = [key for source in sources for key in pod_keys(source.value)]
    addresses = earlier.including(
        services=[*(_name(it.key) for it in services if not it.value.spec.cluster_ip), *map(_name, gateways)],
        taken=[it.value.spec.cluster_ip for it in services if it.value.spec.cluster_ip],
        pods=[ZTUNNEL, *(f"{it.namespace}/{INGRESS}" for it in ingresses), *map(_name, gateways), *keys],
        views=keys,
    )
    vips = {it.key: it.value.spec.cluster_ip or addresses.services[_name(it.key)] for it in services}
    reachable = [(it.value, vips[it.key]) for it in services]
    captures, unserved = _captures(ingresses, reachable)
    return Mesh(
        addresses=addresses,
        services={it.key: vips[it.key] for it in services if not it.value.spec.cluster_ip},
        reachable=tuple(reachable),
        pods=tuple(pod for it in sources for pod in replicas(it.key, it.value, programs, reachable, addresses)),
        ingresses=tuple(_ingress_pod(namespace, capture, addresses) for namespace, capture in captures.items()),
        waypoints=tuple(_waypoint(gateway, addresses) for gateway in gateways),
        problems=(*problems, *_problems(resources, sources)),
        unserved=unserved,
    )


def _sources(resources: Resources, programs: Sequence[Program]) -> tuple[list[Source], list[Problem]]:
    """Return the objects to create pods from, and the problems of others. Objects with an owner are skipped."""
    found: list[Source] = []
    problems: list[Problem] = []
    taken: dict[str, ObjectKey] = {}
    candidates: list[Source] = [*resources.of(PodSet), *resources.of(BarePod)]
    for source in candidates:
        if source.value.metadata.owner_references:
            continue
        images = images_without_program(source.value, programs)
        for image in images:
            sentence = f"no program is configured for the image {image}, so it does not run; add one with --programs"
            problems.append(_problem(source, f"{_template(source)}.containers", sentence))
        keys = pod_keys(source.value)
        if first := next((taken[key] for key in keys if key in taken), None):
            sentence = f"its pods have the same names as those of {first}, so it does not run; rename one of the two"
            problems.append(_problem(source, "metadata.name", sentence))
        elif not images:
            taken |= dict.fromkeys(keys, source.key)
            found.append(source)
    return found, problems


def _template(source: Source) -> str:
    """Return the path of the field with the pod's spec."""
    return "spec" if isinstance(source.value, BarePod) else "spec.template.spec"


def _captures(
    ingresses: Iterable[Ingress], services: Iterable[tuple[Service, str]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the capture entries of each namespace's ingress pod, and a sentence for each unusable ingress."""
    known = {(it.metadata.namespace, it.metadata.name): (it, address) for it, address in services}
    entries: dict[str, list[str]] = {}
    unserved = []
    for ingress in ingresses:
        service, address = known.get((ingress.namespace, ingress.service), (None, ""))
        ports = [port.port for port in service.spec.ports] if service else []
        port = ingress.port or next(iter(ports), 0)
        if port in ports:
            host, listen_port = ingress.listen
            entries.setdefault(ingress.namespace, []).append(f"{host}:{listen_port}={address}:{port}")
        elif service:
            unserved.append(f"--ingress {ingress}: the Service has no port {port}; it has {_listed(ports)}")
        else:
            unserved.append(f"--ingress {ingress}: the manifests do not contain this Service")
    return {namespace: ",".join(of_namespace) for namespace, of_namespace in entries.items()}, tuple(unserved)


def _ingress_pod(namespace: str, capture: str, addresses: Addresses) -> Pod:
    return Pod(
        namespace=namespace,
        name=INGRESS,
        address=addresses.pods[f"{namespace}/{INGRESS}"],
        service_account=INGRESS,
        labels={"app": INGRESS},
        capture=capture,
    )


def _waypoint(gateway: ObjectKey, addresses: Addresses) -> Waypoint:
    """Labeled like the pods that Istio creates for a Gateway."""
    labels = {
        GATEWAY_NAME: gateway.name,
        MANAGED: "istio.io-mesh-controller",
        DATAPLANE_MODE: "none",
        TUNNEL: "http",
    }
    name = _name(gateway)
    pod = Pod(gateway.namespace, gateway.name, addresses.pods[name], service_account=gateway.name, labels=labels)
    return Waypoint(gateway, addresses.services[name], pod)


def _problems(resources: Resources, sources: Sequence[Source]) -> Iterator[Problem]:
    for gateway in resources.of(Gateway):
        if (name := gateway.value.spec.gateway_class_name) not in WAYPOINT_CLASSES:
            classes = " and ".join(WAYPOINT_CLASSES)
            sentence = f"{name} is not one of the laptop mesh's classes ({classes}); it gets no waypoint"
            yield _problem(gateway, "spec.gatewayClassName", sentence)
    for source in sources:
        for container in source.value.template.spec.containers:
            for variable in filter(needs_cluster, container.env):
                sentence = f"{variable.name} needs a source that only a cluster has, and is ignored"
                yield _problem(source, f"{_template(source)}.containers[{container.name}].env", sentence)
    for service in resources.of(Service):
        for source in sources:
            if service.value.selects(source.key.namespace, source.value.template.metadata.labels):
                yield from _missing_ports(service, source)


def _missing_ports(service: Resource[Service], source: Source) -> Iterator[Problem]:
    """A Service whose target port no program declares is the most common reason for a 503."""
    declared = [port for container in source.value.template.spec.containers for port in container.ports]
    offered: list[int | str] = [
        *(port.container_port for port in declared),
        *(port.name for port in declared if port.name),
    ]
    for index, port in enumerate(service.value.spec.ports):
        if port.target not in offered:
            sentence = (
                f"no container of {source.key} declares the port {port.target}; declared ports are {_listed(offered)}"
            )
            yield _problem(service, f"spec.ports[{index}].targetPort", sentence)


def _listed(ports: Iterable[int | str]) -> str:
    return ", ".join(map(str, ports)) or "none"


def _problem(resource: Resource[Any], field: str, sentence: str) -> Problem:
    return Problem(resource.origin, str(resource.key), field, sentence, LaptopCode.NOT_RUN)


def _name(key: ObjectKey) -> str:
    return f"{key.namespace}/{key.name}"
