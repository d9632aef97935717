"""The listeners that capture a pod's connections: see `l4.discovery.capture`.

The source of a connection is the pod whose listener accepted it; it is never derived from an address.
"""

import ipaddress
from dataclasses import dataclass
from typing import Protocol

from l4.discovery.capture import Address, Redirect, View, refused
from l4.discovery.label_names import INBOUND_CAPTURE, OUTBOUND_CAPTURE
from l4.discovery.registry import Registry
from l4.discovery.workload import Workload
from l4.net.network import Network
from l4.ztunnel.outbound import OWN_PORTS, same_family
from policies.host_port import host_port


@dataclass(frozen=True, slots=True)
class Captured:
    """What a listener accepts: connections into the pod, or out of it.

    `to` is their original destination. If it is None, the kernel knows it, because it redirected the connection.
    """

    is_inbound: bool
    to: Address | None = None


class Place(Protocol):
    """Where a pod's sockets are opened, and which listeners capture its connections."""

    @property
    def network(self) -> Network | None:
        """The network namespace; None is the process's own."""

    def tunnel_addresses(self, pod: Workload) -> list[Address]:
        """Return where the pod accepts HBONE."""

    def captured(self, registry: Registry, pod: Workload) -> dict[Address, Captured]:
        """Return the listening addresses that capture connections. Raises InvalidCapture."""


class Places(Protocol):
    def place_of(self, registry: Registry, pod: Workload) -> Place | None:
        """Return where to serve a pod of the node, or None if it is not served here."""


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """Pods with addresses on this machine: listeners for what they ask for in annotations."""

    hbone_port: int

    @property
    def network(self) -> None:
        return None

    def place_of(self, registry: Registry, pod: Workload) -> Place | None:
        """Serve pods whose connections are redirected to this proxy.

        Other pods with HBONE listen on port 15008 themselves. Pods that share an address with their node or another
        pod cannot be identified by address.
        """
        is_ours = pod.is_redirected and all(registry.workload_at(address) is pod for address in pod.addresses)
        return self if is_ours else None

    def tunnel_addresses(self, pod: Workload) -> list[Address]:
        return [(address, self.hbone_port) for address in pod.addresses]

    def captured(self, registry: Registry, pod: Workload) -> dict[Address, Captured]:
        outbound = {listen: Captured(False, to) for listen, to in listeners(registry, pod).items()}
        return outbound | {listen: Captured(True, to) for listen, to in inbound_listeners(pod).items()}


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
