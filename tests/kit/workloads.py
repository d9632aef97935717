"""Small meshes for tests of decisions."""

import os
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

from l4.discovery.capture import capture_of
from l4.discovery.label_names import OUTBOUND_CAPTURE
from l4.discovery.registry import Registry
from l4.discovery.workload import (
    AppProtocol,
    GatewayAddress,
    Service,
    ServiceEndpoint,
    ServicePort,
    TunnelProtocol,
    Workload,
)
from policies.attributes import Identity

NODE = "here"

LOOPBACK = IPv4Network((f"127.{1 + os.getpid() % 60}.0.0", 16))
"""Ports are fixed, so concurrent test processes use different addresses; 127.64.0.0 and above belong to the laptop
mesh."""


def pod(
    name: str,
    *addresses: str,
    speaks_hbone: bool = True,
    is_healthy: bool = True,
    node: str = NODE,
    capture: str = "",
    network: str = "",
    capacity: int = 1,
    waypoint: GatewayAddress | None = None,
) -> Workload:
    """Return a pod in namespace `default`, whose service account has the pod's name."""
    return Workload(
        uid=f"Kubernetes//Pod/default/{name}",
        name=name,
        namespace="default",
        addresses=addresses,
        identity=Identity("cluster.local", "default", name),
        tunnel_protocol=TunnelProtocol.HBONE if speaks_hbone else TunnelProtocol.NONE,
        node=node,
        is_healthy=is_healthy,
        workload_name=name,
        canonical_name=name,
        network=network,
        is_redirected=speaks_hbone,
        capture=capture_of({OUTBOUND_CAPTURE: capture} if capture else {}, f"default/{name}"),
        capacity=capacity,
        waypoint=waypoint,
    )


def service(
    name: str,
    *vips: str,
    ports: Mapping[int, int],
    pods: Iterable[Workload] = (),
    waypoint: GatewayAddress | None = None,
) -> Service:
    """Return a service in namespace `default`; `ports` maps its ports to those of all its pods."""
    return Service(
        name=name,
        namespace="default",
        hostname=f"{name}.default.svc.cluster.local",
        addresses=vips,
        ports=tuple(ServicePort(port, f"tcp-{port}", AppProtocol.UNKNOWN) for port in ports),
        endpoints=tuple(ServiceEndpoint(it, ports) for it in pods),
        waypoint=waypoint,
    )


def registry(*objects: Workload | Service) -> Registry:
    """Return a registry of these objects, and of all endpoints of the services."""
    services = [it for it in objects if isinstance(it, Service)]
    workloads = {it.uid: it for it in objects if isinstance(it, Workload)}
    workloads |= {it.workload.uid: it.workload for of_service in services for it in of_service.endpoints}
    return Registry.build(services, workloads.values())
