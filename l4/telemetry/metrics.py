"""Istio's standard metrics, cheap enough to be updated on every request and to be scraped under load.

A child (one label set of a family) is a plain object of counts, found once and then kept by the caller; updating it
takes no lock and no look-up, because only the event loop's thread writes. A scrape takes a snapshot, merges it with the
snapshots of other parts of the program, and renders the result (`l4.telemetry.samples`): text 0.0.4 or OpenMetrics,
whichever the scraper accepts, without `_created` samples. prometheus_client chooses the format and adds the process.

Names, labels and buckets are Istio's (https://istio.io/latest/docs/reference/config/metrics/), so that existing
dashboards work unchanged. A missing value is `unknown`, never empty. A process keeps at most `max_series` series;
what comes later is counted in one overflow label set per family instead of growing without bound.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from l4.telemetry.samples import BUCKETS, FamilySnapshot, HistogramCounts, Merging, MetricsSnapshot, merge
from policies.balancing.endpoint import WorkloadLabels

SOURCE_LABELS = (
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
)
DESTINATION_LABELS = (
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
)
TCP_LABELS = (
    "reporter",
    *SOURCE_LABELS,
    *DESTINATION_LABELS,
    "request_protocol",
    "response_flags",
    "connection_security_policy",
)
REQUEST_LABELS = (
    "reporter",
    *SOURCE_LABELS,
    *DESTINATION_LABELS,
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)

_FRACTIONS = tuple(map(float, BUCKETS))
_WHOLE = tuple(map(int, BUCKETS))  # 0 in place of 0.5

# 300 combinations of caller, workload and answer. Rendering them all takes 0.06 s and makes a body of 20 MB.
MAX_SERIES = 20_000
OVERFLOW = "overflow"


class NamedService(Protocol):
    """What metrics say of a service: `reviews.default.svc.cluster.local`, `reviews`, `default`."""

    @property
    def hostname(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...


def workload_values(labels: WorkloadLabels) -> tuple[str, ...]:
    """The values of SOURCE_LABELS, or of the DESTINATION_LABELS that describe a workload: their order is the same."""
    return (
        labels.workload,
        labels.canonical_service,
        labels.canonical_revision,
        labels.namespace,
        labels.principal,
        labels.app,
        labels.version,
        labels.cluster,
    )


def mesh_values(source: WorkloadLabels, service: NamedService, destination: WorkloadLabels) -> tuple[str, ...]:
    """The values of SOURCE_LABELS followed by DESTINATION_LABELS."""
    return (
        *workload_values(source),
        service.hostname,
        service.namespace,
        service.name,
        *workload_values(destination),
    )


class Value:
    """One number of a counter or a gauge."""

    __slots__ = ("value",)
    series = 1

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        self.value += amount

    def sample(self) -> int:
        return self.value


class Histogram:
    __slots__ = ("counts", "sum")
    series = len(BUCKETS) + 3

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        # comparing a float with an integer takes several times as long as with its like
        self.counts[bisect_left(_WHOLE if type(value) is int else _FRACTIONS, value)] += 1
        self.sum += value

    def sample(self) -> HistogramCounts:
        return HistogramCounts(tuple(self.counts), self.sum)


class SeriesBudget:
    """How many series the process may still make, and how often it had to say no."""

    def __init__(self, series: int) -> None:
        self.left = series
        self.refused = Value()

    def take(self, series: int) -> bool:
        if series > self.left:
            self.refused.add()
            return False
        self.left -= series
        return True


Child = TypeVar("Child", Value, Histogram)


class Family(Generic[Child]):
    """One metric name with its children. Counters' names are given without `_total`, as in OpenMetrics."""

    def __init__(
        self,
        name: str,
        kind: str,
        help_text: str,
        label_names: tuple[str, ...],
        child: type[Child],
        budget: SeriesBudget,
        merging: Merging = Merging.SUM,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help_text = help_text
        self.label_names = label_names
        self.merging = merging
        self._child: type[Child] = child
        self._children: dict[tuple[str, ...], Child] = {}
        self._overflow = (OVERFLOW,) * len(label_names)
        self._budget = budget

    def labels(self, values: tuple[str, ...]) -> Child:
        """The child with these label values, made on first use; the overflow child once the budget is spent."""
        child = self._children.get(values)
        if child is None:
            if not self._budget.take(self._child.series):
                values = self._overflow
            child = self._children.setdefault(values, self._child())
        return child

    def adopt(self, values: tuple[str, ...], child: Child) -> None:
        """Show a child that somebody else owns."""
        self._children[values] = child

    def snapshot(self) -> FamilySnapshot:
        # A copy first, because a scrape is answered in another thread while the loop adds children.
        samples = {values: child.sample() for values, child in self._children.copy().items()}
        return FamilySnapshot(self.name, self.kind, self.help_text, self.label_names, self.merging, samples)


class MeshMetrics:
    """All families of one part of a program: of a worker, or of the process that has workers.

    `component` is `proxy` for a waypoint and `ztunnel` for a ztunnel; `tag` is our version.
    """

    def __init__(self, component: str, tag: str, max_series: int = MAX_SERIES) -> None:
        budget = SeriesBudget(max_series)

        def counter(name: str, help_text: str, labels: tuple[str, ...]) -> Family[Value]:
            return Family(name, "counter", help_text, labels, Value, budget)

        def gauge(name: str, help_text: str, labels: tuple[str, ...], merging: Merging) -> Family[Value]:
            return Family(name, "gauge", help_text, labels, Value, budget, merging)

        def histogram(name: str, help_text: str) -> Family[Histogram]:
            return Family(name, "histogram", help_text, REQUEST_LABELS, Histogram, budget)

        self.requests = counter(
            "istio_requests", "Requests with an answer, from the endpoint or the proxy.", REQUEST_LABELS
        )
        self.request_duration = histogram(
            "istio_request_duration_milliseconds",
            "Time from a request's first byte to its response's last byte, in milliseconds.",
        )
        self.request_bytes = histogram("istio_request_bytes", "Size of requests with their heads, in bytes.")
        self.response_bytes = histogram("istio_response_bytes", "Size of responses with their heads, in bytes.")
        self.connections_opened = counter("istio_tcp_connections_opened", "TCP connections opened.", TCP_LABELS)
        self.connections_closed = counter("istio_tcp_connections_closed", "TCP connections closed.", TCP_LABELS)
        self.received_bytes = counter(
            "istio_tcp_received_bytes", "Bytes from the side that opened the connection.", TCP_LABELS
        )
        self.sent_bytes = counter("istio_tcp_sent_bytes", "Bytes to the side that opened the connection.", TCP_LABELS)
        self.refused = counter(
            "pywaypoint_refused", "Connections and requests refused before they had a destination.", ("reason",)
        )
        self.cluster_events = counter(
            "pywaypoint_cluster_events",
            "Events of a destination (retries, ejections, overflows), named as in Envoy.",
            ("event", "cluster_name"),
        )
        self.cluster_states = gauge(
            "pywaypoint_cluster_state",
            "State of a destination that has policies, named as in Envoy.",
            ("state", "cluster_name"),
            Merging.MAX,
        )
        self.rate_limits = counter(
            "pywaypoint_rate_limit", "Requests that a rate limit counted.", ("policy", "rule", "outcome")
        )
        self.rate_limit_service = counter(
            "pywaypoint_rate_limit_service",
            "Questions to a rate limit service.",
            ("service", "outcome"),
        )
        self.external_auth = counter(
            "pywaypoint_external_auth", "Questions to an external authorizer.", ("provider", "outcome")
        )
        self.stopped_faults = gauge(
            "pywaypoint_fault_stopped",
            "1 for a fault plan that stopped because its target fails.",
            ("plan",),
            Merging.MAX,
        )
        self.authorization_denied = counter(
            "pywaypoint_authorization_denied",
            "Requests that an AuthorizationPolicy denied; `none`: no ALLOW policy allowed them.",
            ("policy",),
        )
        self.authorization_dry_run = counter(
            "pywaypoint_authorization_dry_run",
            "What AuthorizationPolicies on trial would have decided.",
            ("authz_dry_run_action", "authz_dry_run_result", "policy"),
        )
        self.loop_failures = counter(
            "pywaypoint_loop_failures", "Failures of background loops; each was started again.", ("loop",)
        )
        self.dropped_lines = counter(
            "pywaypoint_log_lines_dropped",
            "Lines that a log lacks: `full`, too many were waiting; `failed`, writing failed; `sampled`, lines of the "
            "same kind had just been written.",
            ("log", "reason"),
        )
        problems = gauge(
            "pywaypoint_config_problems",
            "Problems of the configuration: parts of it that are not live.",
            (),
            Merging.MAX,
        )
        self.config_problems = problems.labels(())
        doubts = gauge(
            "pywaypoint_config_doubts",
            "Files, folders and objects that could not be read or understood; what they held before stays live.",
            (),
            Merging.MAX,
        )
        self.config_doubts = doubts.labels(())
        self._expiry = gauge(
            "istio_cert_expiry_seconds",
            "Time until our certificate expires, in seconds; of several, the first to expire.",
            (),
            Merging.MIN,
        )
        build = gauge(
            "istio_build", "Version of this component, in the label `tag`; always 1.", ("component", "tag"), Merging.MAX
        )
        build.labels((component, tag)).add()
        overflow = counter(
            "pywaypoint_metrics_overflow",
            "New label sets beyond the limit of series; they are counted under `overflow`.",
            (),
        )
        overflow.adopt((), budget.refused)
        self.families: tuple[Family[Value] | Family[Histogram], ...] = (
            *(self.requests, self.request_duration, self.request_bytes, self.response_bytes),
            *(self.connections_opened, self.connections_closed, self.received_bytes, self.sent_bytes),
            *(
                self.refused,
                self.cluster_events,
                self.cluster_states,
                self.rate_limits,
                self.rate_limit_service,
                self.external_auth,
                self.stopped_faults,
                self.authorization_denied,
                self.authorization_dry_run,
                self.loop_failures,
                self.dropped_lines,
                problems,
                doubts,
                self._expiry,
                build,
                overflow,
            ),
        )
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    def count_refusal(self, reason: str) -> None:
        """`reason` is the limit's name in the settings, or a word for what was malformed: never a peer's text."""
        self.refused.labels((reason,)).add()

    def show_dropped_lines(self, log: str, reasons: Mapping[str, Value]) -> None:
        """From now on, the values that the writer of a log keeps."""
        for reason, value in reasons.items():
            self.dropped_lines.adopt((log, reason), value)

    def count_loop_failure(self, loop: str) -> None:
        self.loop_failures.labels((loop,)).add()

    def certificate_expires(self, seconds: float) -> None:
        """So long from now; there is no value before the first call."""
        self._expiry.labels(()).value = int(seconds)

    def snapshot(self) -> MetricsSnapshot:
        """May be called in any thread."""
        return tuple([family.snapshot() for family in self.families])

    def render(self, accept: str, others: Iterable[MetricsSnapshot] = ()) -> tuple[bytes, str]:
        """The exposition of these metrics merged with `others`, and its content type, for a scraper that sent this
        Accept header. Raises CannotMerge."""
        encoder, content_type = choose_encoder(accept)
        is_openmetrics = content_type.startswith("application/openmetrics-text")
        families = (family.render(is_openmetrics).encode() for family in merge((self.snapshot(), *others)))
        return b"".join((*families, encoder(self._process))), content_type
