"""Capture of connections without redirection, as on a machine without root.

An annotation of each local pod maps loopback addresses to the Services that the pod sees:

    pywaypoint.dev/outbound-capture: 127.129.0.0/16, 127.0.0.1:8080=127.96.0.4:9080

A prefix makes every Service reachable at the prefix combined with the low bits of its VIP, on the same ports.
`LISTEN=TO` maps one address to another. The source of a connection is the pod whose listener accepted it; it is never
derived from an address. Plain connections to a pod, which a node's redirection would bring to port 15006, are captured
by

    pywaypoint.dev/inbound-capture: 127.0.0.1:8081=9080

where each `LISTEN=PORT` maps an address to a port of the pod itself.
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
    """Return listening addresses and the original destination of each. Raises InvalidCapture."""
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
        # A Service may be captured at its own address, because connections go to its endpoints.
        if (ip, port) in found and registry.service_at(ip) is None:
            raise InvalidCapture(f"{place}: the destination {ip}:{port} is a captured address itself")
    return found


def inbound_listeners(pod: Workload) -> dict[Address, Address]:
    """Return listening addresses and the pod's address for each. Raises InvalidCapture."""
    place = f"{INBOUND_CAPTURE} of pod {pod.namespace}/{pod.name}"
    found: dict[Address, Address] = {}
    for entry in filter(None, (entry.strip() for entry in pod.annotations.get(INBOUND_CAPTURE, "").split(","))):
        listen, _, port = entry.partition("=")
        try:
            address = _address(listen)
            if not is_port(port) or int(port) in OWN_PORTS:
                raise InvalidCapture(f"{port!r} is not a port of an application")
        except InvalidCapture as error:
            raise InvalidCapture(f"{place}: {entry!r}: {error}") from None
        found[address] = (same_family(pod, address[0]), int(port))
    return found


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


def _address(text: str) -> Address:
    try:
        authority = Authority.parse(text.strip().encode())
    except InvalidConnect as error:
        raise InvalidCapture(str(error)) from None
    if not authority.is_ip:
        raise InvalidCapture(f"{authority.host} is not an IP address")
    return authority.host, authority.port
