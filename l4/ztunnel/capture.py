"""The listeners that capture a pod's connections: see `l4.discovery.capture`.

The source of a connection is the pod whose listener accepted it; it is never derived from an address.
"""

import ipaddress

from l4.discovery.capture import Address, Redirect, View, refused
from l4.discovery.label_names import INBOUND_CAPTURE, OUTBOUND_CAPTURE
from l4.discovery.registry import Registry
from l4.discovery.workload import Workload
from l4.ztunnel.outbound import OWN_PORTS, same_family
from policies.host_port import host_port


class InvalidCapture(ValueError):
    """The capture that a pod requests is impossible."""


def listeners(registry: Registry, pod: Workload) -> dict[Address, Address]:
    """Return listening addresses and the original destination of each. Raises InvalidCapture."""
    _check(pod)
    found: dict[Address, Address] = {}
    for entry in pod.capture.outbound:
        match entry:
            case View(prefix):
                found.update(_view(registry, ipaddress.IPv4Network(prefix)))
            case Redirect(listen, to):
                found[listen] = to
    for ip, port in found.values():
        # A Service may be captured at its own address, because connections go to its endpoints.
        if (ip, port) in found and registry.service_at(ip) is None:
            place = f"{OUTBOUND_CAPTURE} of pod {pod.namespace}/{pod.name}"
            raise InvalidCapture(f"{place}: the destination {host_port(ip, port)} is a captured address itself")
    return found


def inbound_listeners(pod: Workload) -> dict[Address, Address]:
    """Return listening addresses and the pod's address for each. Raises InvalidCapture."""
    _check(pod)
    for it in pod.capture.inbound:
        if it.port in OWN_PORTS:
            host, port = it.listen
            entry, why = f"{host}:{port}={it.port}", f"'{it.port}' is not a port of an application"
            raise InvalidCapture(refused(INBOUND_CAPTURE, f"{pod.namespace}/{pod.name}", entry, why))
    return {it.listen: (same_family(pod, it.listen[0]), it.port) for it in pod.capture.inbound}


def _check(pod: Workload) -> None:
    if pod.capture.refusal:
        raise InvalidCapture(pod.capture.refusal)


def _view(registry: Registry, prefix: ipaddress.IPv4Network) -> dict[Address, Address]:
    """Return all services as seen through a prefix."""
    found: dict[Address, Address] = {}
    for service in registry.services.values():
        for vip in service.addresses:
            if ":" in vip:
                continue
            host_bits = int(ipaddress.IPv4Address(vip)) & int(prefix.hostmask)
            listen = str(ipaddress.IPv4Address(int(prefix.network_address) | host_bits))
            for port in service.ports:
                found[listen, port.port] = (vip, port.port)
    return found
