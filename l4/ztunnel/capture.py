"""Where capture listens when nothing redirects connections, as on a machine without root.

Each local pod says in an annotation which loopback addresses stand for the Services as that pod sees them:

    pywaypoint.dev/outbound-capture: 127.129.0.0/16, 127.0.0.1:8080=127.96.0.4:9080

A prefix makes every Service reachable at the prefix with the low bits of its VIP, on the same ports; `LISTEN=TO` is one
address that stands for another. The source of a connection is the pod whose listener took it, never guessed from an
address. What comes to a pod without a tunnel, which a node's redirection would bring to port 15006, is captured by

    pywaypoint.dev/inbound-capture: 127.0.0.1:8081=9080

where each `LISTEN=PORT` stands for a port of the pod itself.
"""

import ipaddress

from l4.discovery.label_names import INBOUND_CAPTURE, OUTBOUND_CAPTURE
from l4.discovery.objects import is_port
from l4.discovery.registry import Registry
from l4.discovery.workload import Workload
from l4.hbone.connect import Authority, InvalidConnect
from l4.ztunnel.outbound import OWN_PORTS, same_family

Address = tuple[str, int]


class InvalidCapture(ValueError):
    """The annotation has an entry that is neither a prefix nor LISTEN=TO."""


def listeners(registry: Registry, pod: Workload) -> dict[Address, Address]:
    """Listening address → the original destination it stands for. Raises InvalidCapture."""
    place = f"{OUTBOUND_CAPTURE} of pod {pod.namespace}/{pod.name}"
    found: dict[Address, Address] = {}
    for entry in filter(None, (entry.strip() for entry in pod.annotations.get(OUTBOUND_CAPTURE, "").split(","))):
        try:
            if "=" in entry:
                listen, _, to = entry.partition("=")
                found[_address(listen)] = _address(to)
            else:
                found.update(_view(registry, ipaddress.IPv4Network(entry)))
        except ValueError as error:
            raise InvalidCapture(f"{place}: {entry!r}: {error}") from None
    for ip, port in found.values():
        # A Service may be captured at its own address: it is its endpoints that are dialled, never itself.
        if (ip, port) in found and registry.service_at(ip) is None:
            raise InvalidCapture(f"{place}: what goes to {ip}:{port} leads back to a captured address")
    return found


def inbound_listeners(pod: Workload) -> dict[Address, Address]:
    """Listening address → the address of the pod that it stands for. Raises InvalidCapture."""
    place = f"{INBOUND_CAPTURE} of pod {pod.namespace}/{pod.name}"
    found: dict[Address, Address] = {}
    for entry in filter(None, (entry.strip() for entry in pod.annotations.get(INBOUND_CAPTURE, "").split(","))):
        listen, _, port = entry.partition("=")
        try:
            address = _address(listen)
            if not is_port(port) or int(port) in OWN_PORTS:
                raise InvalidCapture(f"{port!r} is no port of an application")
        except InvalidCapture as error:
            raise InvalidCapture(f"{place}: {entry!r}: {error}") from None
        found[address] = (same_family(pod, address[0]), int(port))
    return found


def _view(registry: Registry, prefix: ipaddress.IPv4Network) -> dict[Address, Address]:
    """All services as seen through a prefix."""
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


def _address(text: str) -> Address:
    try:
        authority = Authority.parse(text.strip().encode())
    except InvalidConnect as error:
        raise InvalidCapture(str(error)) from None
    if not authority.is_ip:
        raise InvalidCapture(f"{authority.host} is not an IP address")
    return authority.host, authority.port
