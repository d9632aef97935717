"""Headers of a CONNECT request that describe its origin: `baggage` and `forwarded`.

Parses and formats W3C Baggage with ztunnel's Kubernetes keys, and the part of RFC 7239 that ztunnel uses. The other
side wrote these headers, so they may appear in metrics and logs but must not affect any decision. Malformed headers
count as absent.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from policies.host_port import host_port

MAX_BAGGAGE_BYTES = 8192
MAX_BAGGAGE_MEMBERS = 64

_WORKLOAD_KEY = re.compile(rb"k8s\.(deployment|cronjob|pod|job)\.name")
# A Kubernetes name has at most 253 characters; longer or unprintable values are ignored.
_VALUE = re.compile(rb"[!-~]{1,253}")


@dataclass(frozen=True, slots=True)
class Baggage:
    """A peer's description of its own workload. Absent values are empty."""

    cluster: str = ""
    namespace: str = ""
    workload: str = ""
    workload_type: str = ""
    canonical_service: str = ""
    canonical_revision: str = ""
    region: str = ""
    zone: str = ""


NO_BAGGAGE = Baggage()

_FIELDS = {
    b"k8s.cluster.name": "cluster",
    b"k8s.namespace.name": "namespace",
    b"service.name": "canonical_service",
    b"service.version": "canonical_revision",
    b"cloud.region": "region",
    b"cloud.availability_zone": "zone",
}


def parse_baggage(value: bytes) -> Baggage:
    """Parse baggage. Join several header lines with commas first. Of a repeated key, the last value counts."""
    if len(value) > MAX_BAGGAGE_BYTES or value.count(b",") >= MAX_BAGGAGE_MEMBERS:
        return NO_BAGGAGE
    fields: dict[str, str] = {}
    for member in value.split(b","):
        key, _, rest = member.partition(b"=")
        key, text = key.strip(), rest.partition(b";")[0].strip()
        described = text.decode("ascii") if _VALUE.fullmatch(text) else ""
        if name := _FIELDS.get(key):
            fields[name] = described
        elif match := _WORKLOAD_KEY.fullmatch(key):
            fields["workload"], fields["workload_type"] = described, match[1].decode("ascii")
    return Baggage(**fields)


class DescribedWorkload(Protocol):
    """The workload attributes that baggage contains."""

    @property
    def cluster_id(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def workload_name(self) -> str: ...
    @property
    def workload_type(self) -> str: ...
    @property
    def canonical_name(self) -> str: ...
    @property
    def canonical_revision(self) -> str: ...


def format_baggage(workload: DescribedWorkload) -> bytes:
    """Format baggage with ztunnel's keys in ztunnel's order, without unknown values. Constant per workload."""
    members = (
        ("k8s.cluster.name", workload.cluster_id),
        ("k8s.namespace.name", workload.namespace),
        (f"k8s.{workload.workload_type}.name", workload.workload_name),
        ("service.name", workload.canonical_name),
        ("service.version", workload.canonical_revision),
    )
    return ",".join(f"{key}={value}" for key, value in members if value).encode("ascii")


@dataclass(frozen=True, slots=True)
class Forwarded:
    """`source` is the original client (`10.0.0.1:80`, `[::1]:80`), `host` the service that it requested."""

    source: str = ""
    host: str = ""


def parse_forwarded(value: bytes) -> Forwarded:
    """Parse as ztunnel does: parameter names are case-sensitive and quotes optional."""
    if not value.isascii():
        return Forwarded()
    parameters: dict[str, str] = {}
    for part in value.decode("ascii").split(";"):
        name, _, text = part.partition("=")
        parameters.setdefault(name, text.removeprefix('"').removesuffix('"'))
    return Forwarded(source=parameters.get("for", ""), host=parameters.get("host", ""))


def format_forwarded(source_ip: str, source_port: int, host: str = "") -> bytes:
    address = host_port(source_ip, source_port)
    return (f'for="{address}";host={host}' if host else f'for="{address}"').encode("ascii")
