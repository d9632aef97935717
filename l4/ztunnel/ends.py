"""The two ends of connections, and what all connections between them have in common: metric labels and log fields.

A new connection thus finds its labels, series and most of its log line ready made.
"""

from dataclasses import replace
from functools import lru_cache

from l4.discovery.workload import Service
from l4.telemetry.metrics import Value, mesh_values
from policies.attributes import Identity
from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels

MAX_ENDS = 4096
"""Pairs of ends that are remembered. Each takes about 1 KiB."""
_MAX_REMEMBERED = 300
"""Characters of the longest text that is remembered in its escaped form."""

NO_FLAG = "-"


class _NoService:
    hostname = name = namespace = "unknown"


NO_SERVICE = _NoService()


class Series:
    """What counts the connections between two ends. `closed` exists when the first one has ended."""

    __slots__ = ("closed", "opened", "received", "sent")

    def __init__(self, opened: Value, received: Value, sent: Value) -> None:
        self.opened = opened
        self.received = received
        self.sent = sent
        self.closed: Value | None = None


class Ends:
    """`pod_uid` is the pod whose listener accepted the connection; `direction` is inbound or outbound.

    Identities are None without mutual TLS. `source` has no principal then, because nothing proves it. `labels` are
    those of TCP metrics for a connection that has not failed. `series` exist when the first connection is counted.
    `kept` is the source that was given, so that no other object gets its id.
    """

    __slots__ = (
        "destination",
        "destination_text",
        "direction",
        "is_mutual_tls",
        "kept",
        "labels",
        "pod_uid",
        "series",
        "service",
        "source",
        "source_text",
    )

    def __init__(
        self,
        pod_uid: str,
        direction: str,
        source: WorkloadLabels,
        source_pod: str,
        source_identity: Identity | None,
        destination: WorkloadLabels,
        destination_pod: str,
        destination_identity: Identity | None,
        service: Service | None,
        is_mutual_tls: bool,
    ) -> None:
        self.kept = source
        self.pod_uid = pod_uid
        self.direction = direction
        self.source = source if is_mutual_tls else replace(source, principal=UNKNOWN_WORKLOAD.principal)
        self.destination = destination
        self.service = service
        self.is_mutual_tls = is_mutual_tls
        self.series: Series | None = None
        reporter = "source" if direction == "outbound" else "destination"
        policy = "mutual_tls" if is_mutual_tls else "unknown"
        values = mesh_values(self.source, service or NO_SERVICE, destination)
        self.labels = (reporter, *values, "tcp", NO_FLAG, policy)
        self.source_text = _texts("src", source_pod, source, source_identity if is_mutual_tls else None)
        identity = destination_identity if is_mutual_tls else None
        called = field("dst.service", service.hostname if service is not None else "")
        self.destination_text = called + _texts("dst", destination_pod, destination, identity)


class KnownEnds:
    """The ends of recent connections, until `forget`: who holds their series keeps these from expiring."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        # By the ids of objects that the found one keeps, so that no other object gets the same id.
        self._found: dict[tuple[int, int, int, str, bool], Ends] = {}

    def find(
        self,
        pod_uid: str,
        direction: str,
        source: WorkloadLabels,
        source_pod: str,
        source_identity: Identity | None,
        destination: WorkloadLabels,
        destination_pod: str,
        destination_identity: Identity | None,
        service: Service | None,
        is_mutual_tls: bool,
    ) -> Ends:
        """`source`, `destination` and `service` are the same objects for the same ends. While they are, the other
        attributes are equal, too: they are of the same configuration."""
        key = (id(source), id(destination), id(service), direction, is_mutual_tls)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= MAX_ENDS:
                self._found.clear()
            found = self._found[key] = Ends(
                pod_uid,
                direction,
                source,
                source_pod,
                source_identity,
                destination,
                destination_pod,
                destination_identity,
                service,
                is_mutual_tls,
            )
        return found

    def forget(self) -> None:
        self._found.clear()


def field(name: str, value: str) -> str:
    """Return the field of a log line after a space, or an empty text if there is no value."""
    return f' {name}="{_escaped(value)}"' if value else ""


def _texts(side: str, pod: str, labels: WorkloadLabels, identity: Identity | None) -> str:
    """Return the log fields of one end."""
    return (
        field(f"{side}.workload", pod)
        + field(f"{side}.namespace", _known(labels.namespace))
        + field(f"{side}.identity", str(identity) if identity is not None else "")
        + field(f"{side}.cluster", _known(labels.cluster))
    )


def _escaped(text: str) -> str:
    return _recent(text) if len(text) <= _MAX_REMEMBERED else _escape(text)


def _escape(text: str) -> str:
    return text.encode("unicode_escape").decode().replace('"', "'")


_recent = lru_cache(1024)(_escape)
"""Nearly all texts are names of workloads and services, again and again."""


def _known(value: str) -> str:
    return "" if value == "unknown" else value
