"""Capture of a pod's connections without redirection, as on a machine without root.

An annotation of each local pod maps loopback addresses to the Services that the pod sees:

    pywaypoint.dev/outbound-capture: 127.129.0.0/16, 127.0.0.1:8080=127.96.0.4:9080

A prefix makes every Service reachable at the prefix combined with the low bits of its VIP, on the same ports.
`LISTEN=TO` maps one address to another. Plain connections to a pod, which a node's redirection would bring to port
15006, are captured by

    pywaypoint.dev/inbound-capture: 127.0.0.1:8081=9080

where each `LISTEN=PORT` maps an address to a port of the pod itself.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from l4.discovery.label_names import INBOUND_CAPTURE, OUTBOUND_CAPTURE
from l4.discovery.objects import canonical_ip, is_ip, is_port

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class View:
    """Every Service at the IPv4 prefix combined with the low bits of its VIP."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """Connections to `listen` go to `to`."""

    listen: Address
    to: Address


@dataclass(frozen=True, slots=True)
class Entrance:
    """Connections to `listen` go to the pod's own `port`."""

    listen: Address
    port: int


@dataclass(frozen=True, slots=True)
class Capture:
    """`refusal` says why the annotations are invalid; there are then no entries."""

    outbound: tuple[View | Redirect, ...] = ()
    inbound: tuple[Entrance, ...] = ()
    refusal: str = ""


NO_CAPTURE = Capture()


def capture_of(annotations: Mapping[str, str], pod: str) -> Capture:
    """Parse a pod's annotations. `pod` is its namespace and name, for messages."""
    if OUTBOUND_CAPTURE not in annotations and INBOUND_CAPTURE not in annotations:
        return NO_CAPTURE
    try:
        outbound = (_outbound(entry, pod) for entry in _entries(annotations, OUTBOUND_CAPTURE))
        inbound = (_inbound(entry, pod) for entry in _entries(annotations, INBOUND_CAPTURE))
        return Capture(tuple(outbound), tuple(inbound))
    except ValueError as error:
        return Capture(refusal=str(error))


def refused(annotation: str, pod: str, entry: str, why: object) -> str:
    """Return the message about an invalid entry."""
    return f"{annotation} of pod {pod}: {entry!r}: {why}"


def _entries(annotations: Mapping[str, str], name: str) -> Iterator[str]:
    return filter(None, (entry.strip() for entry in annotations.get(name, "").split(",")))


def _outbound(entry: str, pod: str) -> View | Redirect:
    listen, is_redirect, to = entry.partition("=")
    try:
        return Redirect(_address(listen), _address(to)) if is_redirect else View(str(ipaddress.IPv4Network(entry)))
    except ValueError as error:
        raise ValueError(refused(OUTBOUND_CAPTURE, pod, entry, error)) from None


def _inbound(entry: str, pod: str) -> Entrance:
    listen, _, port = entry.partition("=")
    try:
        if not is_port(port):
            raise ValueError(f"{port!r} is not a port from 1 to 65535")
        return Entrance(_address(listen), int(port))
    except ValueError as error:
        raise ValueError(refused(INBOUND_CAPTURE, pod, entry, error)) from None


def _address(text: str) -> Address:
    host, _, port = text.strip().rpartition(":")
    if not host or not is_port(port) or (":" in host) is not (host[0] + host[-1] == "[]"):
        raise ValueError(f"{text!r} is not an address and a port: write 127.0.0.1:8080 or [::1]:8080")
    host = host.strip("[]")
    if not is_ip(host):
        raise ValueError(f"{host} is not an IP address")
    return canonical_ip(host), int(port)
