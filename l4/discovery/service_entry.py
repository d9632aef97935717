"""The schemas of ServiceEntry and WorkloadEntry, validated like istiod does.

https://istio.io/latest/docs/reference/config/networking/service-entry/
"""

import ipaddress
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from l4.discovery.objects import Metadata, PortNumber, is_ip

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:\*|{_LABEL})(?:\.{_LABEL})*\.?").fullmatch


class EntryPort(Struct, frozen=True, rename="camel"):
    number: PortNumber
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    protocol: str = ""
    target_port: PortNumber | None = None


class EntryEndpoint(Struct, frozen=True, rename="camel"):
    """The spec of a WorkloadEntry, also used in `ServiceEntry.spec.endpoints`.

    `address` is an IP address, or a name if the resolution is DNS. `ports` maps port names to the workload's ports.
    """

    address: Annotated[str, Meta(max_length=253)] = ""
    ports: dict[str, PortNumber] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    weight: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 1
    service_account: str = "default"
    network: str = ""
    locality: str = ""

    def __post_init__(self) -> None:
        if self.address.startswith("unix://"):
            raise ValueError(f"{self.address!r} is a Unix socket; only addresses and host names are supported")
        if self.address and not is_ip(self.address) and not _HOST(self.address):
            raise ValueError(f"{self.address!r} is neither an IP address nor a host name")


class EntrySelector(Struct, frozen=True):
    labels: dict[str, str] = field(default_factory=dict)


class ServiceEntrySpec(Struct, frozen=True, rename="camel"):
    hosts: Annotated[tuple[str, ...], Meta(min_length=1, max_length=256)]
    addresses: Annotated[tuple[str, ...], Meta(max_length=256)] = ()
    ports: Annotated[tuple[EntryPort, ...], Meta(max_length=256)] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: Annotated[tuple[EntryEndpoint, ...], Meta(max_length=4096)] = ()
    workload_selector: EntrySelector | None = None
    subject_alt_names: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for host in self.hosts:
            if host == "*" or not _HOST(host):
                raise ValueError(f"hosts: {host!r} is not a name such as api.example.com or *.example.com")
            if host.startswith("*") and self.resolution not in {"NONE", "DYNAMIC_DNS"}:
                raise ValueError(f"hosts: {host!r} cannot be resolved; a wildcard needs resolution NONE or DYNAMIC_DNS")
        for address in self.addresses:
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                raise ValueError(f"addresses: {address!r} is neither an IP address nor a network") from None
        for name in ("number", "name"):
            values = [getattr(port, name) for port in self.ports]
            if len(set(values)) != len(values):
                raise ValueError(f"ports: two ports have the same {name}")
        self._check_endpoints()

    def _check_endpoints(self) -> None:
        if self.endpoints and self.workload_selector is not None:
            raise ValueError("endpoints and workloadSelector exclude each other: keep one")
        if self.endpoints and self.resolution in {"NONE", "DYNAMIC_DNS"}:
            raise ValueError(f"endpoints need resolution STATIC or DNS, not {self.resolution}")
        known = {port.name for port in self.ports}
        for name in (name for endpoint in self.endpoints for name in endpoint.ports if name not in known):
            raise ValueError(
                f"endpoints: the entry has no port named {name!r}; its ports are {', '.join(sorted(known)) or 'none'}"
            )
        if self.resolution == "STATIC":
            for endpoint in self.endpoints:
                if not is_ip(endpoint.address):
                    raise ValueError(
                        f"endpoints: {endpoint.address!r} is not an IP address; resolution STATIC requires one"
                    )


class AssignedAddress(Struct, frozen=True):
    value: str
    host: str = ""


class ServiceEntryStatus(Struct, frozen=True):
    """`addresses` are assigned automatically by istiod (240.240.0.0/16, 2001:2::/48)."""

    addresses: tuple[AssignedAddress, ...] = ()


class ServiceEntry(Struct, frozen=True):
    metadata: Metadata
    spec: ServiceEntrySpec
    status: ServiceEntryStatus = ServiceEntryStatus()

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(it for it in self.spec.addresses if not is_ip(it))

    @property
    def exported_to(self) -> frozenset[str] | None:
        """Namespaces that can see the entry. None means all; `~` means none."""
        names = self.spec.export_to
        if not names or "*" in names:
            return None
        return frozenset(self.metadata.namespace if name == "." else name for name in names) - {"~"}

    def addresses_of(self, host: str) -> tuple[str, ...]:
        """Return the single addresses of a host, without networks."""
        own = tuple(it for it in self.spec.addresses if is_ip(it))
        return own or tuple(it.value for it in self.status.addresses if it.host in {"", host} and is_ip(it.value))


class WorkloadEntry(Struct, frozen=True):
    metadata: Metadata
    spec: EntryEndpoint

    def __post_init__(self) -> None:
        if not self.spec.address:
            raise ValueError("spec.address is missing")

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the spec and of the object. The object's take precedence, as in istiod."""
        return {**self.spec.labels, **self.metadata.labels}
