"""From manifests to what runs on the laptop: which pods and waypoints, under which addresses, as whom. Pure.

The plan is made again after each edit; the addresses of the last one go in, so that nothing moves. What cannot be run
(an image without a program, a Gateway of a foreign class) becomes a problem, and the rest goes on without it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4.config.codes import Code
from l4.config.documents import ObjectKey, Problem
from l4.config.resources import Resource, Resources
from policies.attributes import Identity
from waypoint.mesh.addresses import Addresses
from waypoint.mesh.environment import needs_cluster
from waypoint.mesh.ingress import Ingress
from waypoint.mesh.manifests import Deployment, Gateway, Service
from waypoint.mesh.pods import Pod, images_without_program, pod_keys, replicas
from waypoint.mesh.programs import Program

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
    """The address of every Service that brings none."""
    pods: tuple[Pod, ...] = ()
    ingresses: tuple[Pod, ...] = ()
    waypoints: tuple[Waypoint, ...] = ()
    problems: tuple[Problem, ...] = ()
    unserved: tuple[str, ...] = ()
    """A sentence for each ingress whose Service or port does not exist."""

    @property
    def ztunnel_address(self) -> str:
        """Of its operator ports; it has no pod, and accepts connections on its pods' addresses."""
        return self.addresses.pods[ZTUNNEL]

    @property
    def identities(self) -> frozenset[Identity]:
        waypoints = (waypoint.pod for waypoint in self.waypoints)
        return frozenset(pod.identity for pod in (*self.pods, *self.ingresses, *waypoints))


def plan(resources: Resources, programs: Sequence[Program], ingresses: Sequence[Ingress], earlier: Addresses) -> Mesh:
    """Raises AddressesExhausted."""
    services = [it for it in resources.of(Service) if it.value.has_address]
    gateways = [it.key for it in resources.of(Gateway) if it.value.spec.gateway_class_name in WAYPOINT_CLASSES]
    deployments = [it.value for it in resources.of(Deployment) if not images_without_program(it.value, programs)]
    keys = [key for deployment in deployments for key in pod_keys(deployment)]
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
        pods=tuple(pod for it in deployments for pod in replicas(it, programs, reachable, addresses)),
        ingresses=tuple(_ingress_pod(namespace, capture, addresses) for namespace, capture in captures.items()),
        waypoints=tuple(_waypoint(gateway, addresses) for gateway in gateways),
        problems=tuple(_problems(resources, programs)),
        unserved=unserved,
    )


def _captures(
    ingresses: Iterable[Ingress], services: Iterable[tuple[Service, str]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The capture entries of each namespace's ingress pod, and a sentence for each ingress that leads nowhere."""
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
            unserved.append(f"--ingress {ingress}: the manifests have no such Service")
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
    """Labelled the way Istio labels the pods that it makes for a Gateway."""
    labels = {
        "gateway.networking.k8s.io/gateway-name": gateway.name,
        "gateway.istio.io/managed": "istio.io-mesh-controller",
        "istio.io/dataplane-mode": "none",
        "networking.istio.io/tunnel": "http",
    }
    name = _name(gateway)
    pod = Pod(gateway.namespace, gateway.name, addresses.pods[name], service_account=gateway.name, labels=labels)
    return Waypoint(gateway, addresses.services[name], pod)


def _problems(resources: Resources, programs: Sequence[Program]) -> Iterator[Problem]:
    for gateway in resources.of(Gateway):
        if (name := gateway.value.spec.gateway_class_name) not in WAYPOINT_CLASSES:
            classes = " and ".join(WAYPOINT_CLASSES)
            sentence = f"{name} is not one of the laptop mesh's classes, {classes}; it gets no waypoint"
            yield _problem(gateway, "spec.gatewayClassName", sentence)
    for deployment in resources.of(Deployment):
        for image in images_without_program(deployment.value, programs):
            sentence = f"no program stands in for the image {image}, so it does not run; give one with --programs"
            yield _problem(deployment, "spec.template.spec.containers", sentence)
        for container in deployment.value.spec.template.spec.containers:
            for variable in filter(needs_cluster, container.env):
                sentence = f"{variable.name} comes from a place that only a cluster has, and is left out"
                yield _problem(deployment, f"spec.template.spec.containers[{container.name}].env", sentence)
    for service in resources.of(Service):
        for deployment in resources.of(Deployment):
            if service.value.selects(deployment.key.namespace, deployment.value.spec.template.metadata.labels):
                yield from _missing_ports(service, deployment)


def _missing_ports(service: Resource[Service], deployment: Resource[Deployment]) -> Iterator[Problem]:
    """A Service that sends to a port where no program listens is the commonest reason for a 503."""
    declared = [port for container in deployment.value.spec.template.spec.containers for port in container.ports]
    offered: list[int | str] = [
        *(port.container_port for port in declared),
        *(port.name for port in declared if port.name),
    ]
    for index, port in enumerate(service.value.spec.ports):
        if port.target not in offered:
            sentence = (
                f"no container of {deployment.key} declares the port {port.target}; declared are {_listed(offered)}"
            )
            yield _problem(service, f"spec.ports[{index}].targetPort", sentence)


def _listed(ports: Iterable[int | str]) -> str:
    return ", ".join(map(str, ports)) or "none"


def _problem(resource: Resource[Any], field: str, sentence: str) -> Problem:
    return Problem(resource.origin, str(resource.key), field, sentence, Code.NOT_RUN)


def _name(key: ObjectKey) -> str:
    return f"{key.namespace}/{key.name}"
