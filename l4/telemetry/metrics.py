"""Istio's standard metrics, cheap enough to be updated on every request and to be scraped under load.

A child (one label set of a family) is a plain object of counts, found once and then kept by the caller; updating it
takes no lock and no look-up, because only the event loop's thread writes. Text 0.0.4 or OpenMetrics, whichever the
scraper accepts, without `_created` samples. The families are rendered here, because prometheus_client escapes and
sorts all 25 labels anew for each bucket: 40 µs per sample against 3. It chooses the format and adds the process.

Names, labels and buckets are Istio's (https://istio.io/latest/docs/reference/config/metrics/), so that existing
dashboards work unchanged. A missing value is `unknown`, never empty. A process keeps at most `max_series` series;
what comes later is counted in one overflow label set per family instead of growing without bound.
"""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

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

# Envoy's default histogram buckets, used by Istio for durations in ms and for sizes in bytes alike.
BUCKETS = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000),
    *(300_000, 600_000, 1_800_000, 3_600_000),
)
_FRACTIONS = tuple(map(float, BUCKETS))
_WHOLE = tuple(map(int, BUCKETS))  # 0 in place of 0.5
_BOUNDS = (*map(str, _FRACTIONS), "+Inf")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

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

    def render(self, name: str, labels: str) -> str:
        return f"{name}{{{labels}}} {self.value}\n" if labels else f"{name} {self.value}\n"


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

    def render(self, name: str, labels: str) -> str:
        totals = list(accumulate(self.counts))
        buckets = (f'{name}_bucket{{{labels},le="{le}"}} {n}\n' for le, n in zip(_BOUNDS, totals, strict=True))
        return f"{''.join(buckets)}{name}_count{{{labels}}} {totals[-1]}\n{name}_sum{{{labels}}} {self.sum}\n"


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
    ) -> None:
        self.name = name
        self.kind = kind
        self.help_text = help_text
        self.label_names = label_names
        self._child: type[Child] = child
        self._children: dict[tuple[str, ...], Child] = {}
        self._overflow = (OVERFLOW,) * len(label_names)
        self._budget = budget

    @property
    def sample_name(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name

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

    def render(self, is_openmetrics: bool) -> str:
        sample_name = self.sample_name
        name = self.name if is_openmetrics else sample_name
        # A copy, because a scrape is rendered in another thread while the loop adds children.
        children = self._children.copy().items()
        samples = (child.render(sample_name, _label_text(self.label_names, values)) for values, child in children)
        return f"# HELP {name} {self.help_text}\n# TYPE {name} {self.kind}\n{''.join(samples)}"


def _label_text(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True))


class MeshMetrics:
    """All families of one process.

    `component` is `proxy` for a waypoint and `ztunnel` for a ztunnel; `tag` is our version.
    """

    def __init__(self, component: str, tag: str, max_series: int = MAX_SERIES) -> None:
        budget = SeriesBudget(max_series)

        def counter(name: str, help_text: str, labels: tuple[str, ...]) -> Family[Value]:
            return Family(name, "counter", help_text, labels, Value, budget)

        def gauge(name: str, help_text: str, labels: tuple[str, ...]) -> Family[Value]:
            return Family(name, "gauge", help_text, labels, Value, budget)

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
            "pywaypoint_fault_stopped", "1 for a fault plan that stopped because its target fails.", ("plan",)
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
            "pywaypoint_config_problems", "Problems of the configuration: parts of it that are not live.", ()
        )
        self.config_problems = problems.labels(())
        doubts = gauge(
            "pywaypoint_config_doubts",
            "Files, folders and objects that could not be read or understood; what they held before stays live.",
            (),
        )
        self.config_doubts = doubts.labels(())
        self._expiry = gauge(
            "istio_cert_expiry_seconds",
            "Time until our certificate expires, in seconds; of several, the first to expire.",
            (),
        )
        build = gauge("istio_build", "Version of this component, in the label `tag`; always 1.", ("component", "tag"))
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

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, for a scraper that sent this Accept header."""
        encoder, content_type = choose_encoder(accept)
        is_openmetrics = content_type.startswith("application/openmetrics-text")
        families = (family.render(is_openmetrics).encode() for family in self.families)
        return b"".join((*families, encoder(self._process))), content_type
