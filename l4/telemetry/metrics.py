"""Istio's standard metrics, cheap to update on every request and to scrape under load.

A child (one label set of a family) is a plain object with counts. Callers look it up once and keep it. An update needs
no lock and no lookup, because only the event loop's thread writes. A scrape takes a snapshot, merges it with snapshots
of other program parts, and renders the result (`l4.telemetry.samples`): text 0.0.4 or OpenMetrics, whichever the
scraper accepts, without `_created` samples. prometheus_client selects the format and adds process metrics.

Names, labels and buckets are Istio's (https://istio.io/latest/docs/reference/config/metrics/), so that existing
dashboards work. A missing value is `unknown`, never empty. A process keeps at most `max_series` series; later label
sets are counted in one overflow label set per family. Series of traffic expire when nothing counts in them any more
(`l4.telemetry.expiry`), because workloads come and go.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, cast

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from l4.telemetry.samples import (
    BUCKETS,
    Buckets,
    Exemplar,
    FamilySnapshot,
    HistogramCounts,
    Merging,
    MetricsSnapshot,
    merge,
)
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
# Enough for 300 combinations of caller, workload and response. Rendering all takes 0.06 s and gives 20 MB.
MAX_SERIES = 20_000
OVERFLOW = "overflow"


class NamedService(Protocol):
    """Names of a service in metrics: `reviews.default.svc.cluster.local`, `reviews`, `default`."""

    @property
    def hostname(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...


def workload_values(labels: WorkloadLabels) -> tuple[str, ...]:
    """Return the values of SOURCE_LABELS, or of the workload labels in DESTINATION_LABELS, which have the same
    order."""
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
    """Return the values of SOURCE_LABELS followed by those of DESTINATION_LABELS."""
    return (
        *workload_values(source),
        service.hostname,
        service.namespace,
        service.name,
        *workload_values(destination),
    )


class Value:
    """The value of a counter or gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        self.value += amount

    def sample(self) -> int:
        return self.value


_SMALL = 4096


class Bounds:
    """The upper bounds of a histogram's buckets, ascending."""

    __slots__ = ("fractions", "of_small", "whole")

    def __init__(self, buckets: Buckets) -> None:
        self.fractions: tuple[float, ...] = tuple(map(float, buckets))
        # Comparing an integer with a float takes several times as long as with an integer.
        self.whole: tuple[int, ...] = tuple(map(int, buckets))
        self.of_small = tuple([bisect_left(self.whole, size) for size in range(_SMALL)])
        """The bucket of each small size. Most sizes are small."""


_BOUNDS = Bounds(BUCKETS)


class Histogram:
    __slots__ = ("_bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Bounds = _BOUNDS) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds.fractions) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds.fractions, value)] += 1
        self.sum += value

    def observe_size(self, size: int) -> None:
        bounds = self._bounds
        self.counts[bounds.of_small[size] if size < _SMALL else bisect_left(bounds.whole, size)] += 1
        self.sum += size

    def exemplify(self, value: float, labels: str, at: float) -> None:
        """Make an observed value the exemplar of its bucket."""
        self.exemplars[bisect_left(self._bounds.fractions, value)] = Exemplar(labels, value, at)

    def sample(self) -> HistogramCounts:
        return HistogramCounts(tuple(self.counts), self.sum, self.exemplars.copy())


class SeriesBudget:
    """How many series the process may still create, and how often creation was refused."""

    def __init__(self, series: int) -> None:
        self.left = series
        self.refused = Value()

    def take(self, series: int) -> bool:
        if series > self.left:
            self.refused.add()
            return False
        self.left -= series
        return True

    def give_back(self, series: int) -> None:
        self.left += series


Child = TypeVar("Child", Value, Histogram)


class Metric(Generic[Child]):
    """Declares a metric; see `counter`, `gauge` and `histogram`. Counters' names are given without `_total`, as in
    OpenMetrics. `expires` says whether series that nothing counts in are forgotten after a time."""

    def __init__(
        self,
        name: str,
        kind: str,
        help_text: str,
        label_names: tuple[str, ...],
        child: type[Child],
        merging: Merging = Merging.SUM,
        *,
        expires: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help_text = help_text
        self.label_names = label_names
        self.child: type[Child] = child
        self.merging = merging
        self.expires = expires


def counter(name: str, help_text: str, label_names: tuple[str, ...] = (), *, expires: bool = False) -> Metric[Value]:
    return Metric(name, "counter", help_text, label_names, Value, expires=expires)


def gauge(name: str, help_text: str, label_names: tuple[str, ...], merging: Merging) -> Metric[Value]:
    return Metric(name, "gauge", help_text, label_names, Value, merging)


def histogram(
    name: str, help_text: str, label_names: tuple[str, ...] = (), *, expires: bool = False
) -> Metric[Histogram]:
    return Metric(name, "histogram", help_text, label_names, Histogram, expires=expires)


class Family(Generic[Child]):
    """A metric with its children. Names of counters omit `_total`, as in OpenMetrics.

    `hidden` are children that have expired, with the time of that; they go on if they are wanted again.
    """

    def __init__(self, metric: Metric[Child], budget: SeriesBudget, buckets: Buckets = BUCKETS) -> None:
        self.metric: Metric[Child] = metric
        self._buckets = buckets
        self._new: Callable[[], Child] = metric.child
        self.series = 1
        """How many series a child is."""
        if metric.kind == "histogram":
            self._new = cast("Callable[[], Child]", partial(Histogram, Bounds(buckets)))
            self.series = len(buckets) + 3
        self.children: dict[tuple[str, ...], Child] = {}
        self._overflow = (OVERFLOW,) * len(metric.label_names)
        self.budget = budget
        self.hidden: dict[tuple[str, ...], tuple[Child, float]] = {}

    def labels(self, values: tuple[str, ...]) -> Child:
        """Return the child with these label values, created on first use. The overflow child if the budget is
        used up.

        It may be kept as long as something is to be counted in it: what somebody holds does not expire.
        """
        child = self.children.get(values)
        if child is None:
            hidden = self.hidden.pop(values, None)
            if hidden is None and not self.budget.take(self.series):
                values = self._overflow
            child = self.children.setdefault(values, self._new() if hidden is None else hidden[0])
        return child

    def only(self, values: tuple[str, ...]) -> Child:
        """Return the child with these label values, and forget all others."""
        child = self.children.get(values) or self._new()
        self.children = {values: child}
        return child

    def adopt(self, values: tuple[str, ...], child: Child) -> None:
        """Export a child that another object owns."""
        self.children[values] = child

    def snapshot(self) -> FamilySnapshot:
        # Copy first: a scrape runs in another thread while the loop adds children.
        samples = {values: child.sample() for values, child in self.children.copy().items()}
        metric = self.metric
        names, merging = metric.label_names, metric.merging
        return FamilySnapshot(metric.name, metric.kind, metric.help_text, names, merging, samples, self._buckets)


CONNECTIONS_OPENED = counter("istio_tcp_connections_opened", "TCP connections opened.", TCP_LABELS, expires=True)
CONNECTIONS_CLOSED = counter("istio_tcp_connections_closed", "TCP connections closed.", TCP_LABELS, expires=True)
RECEIVED_BYTES = counter(
    "istio_tcp_received_bytes", "Bytes from the side that opened the connection.", TCP_LABELS, expires=True
)
SENT_BYTES = counter("istio_tcp_sent_bytes", "Bytes to the side that opened the connection.", TCP_LABELS, expires=True)
REFUSED = counter("pywaypoint_refused", "Connections and requests refused before they had a destination.", ("reason",))
LOOP_FAILURES = counter("pywaypoint_loop_failures", "Failures of background loops; each was started again.", ("loop",))
DROPPED_LINES = counter(
    "pywaypoint_log_lines_dropped",
    "Lines that a log lacks: `full`, too many were waiting; `failed`, writing failed; `sampled`, lines of the same "
    "kind had just been written.",
    ("log", "reason"),
)
CONFIG_PROBLEMS = gauge(
    "pywaypoint_config_problems", "Problems of the configuration: parts of it that are not live.", (), Merging.MAX
)
CONFIG_DOUBTS = gauge(
    "pywaypoint_config_doubts",
    "Files, folders and objects that could not be read or understood; what they held before stays live.",
    (),
    Merging.MAX,
)
CONFIG_SILENCE = gauge(
    "pywaypoint_config_source_silent_seconds",
    "Time since the API server last confirmed the objects, in seconds; of several kinds, the longest. Up to 90 is "
    "normal; always 0 with files, and with a discovery server that is connected.",
    (),
    Merging.MAX,
)
CONFIG_VERSION = gauge(
    "pywaypoint_config_version",
    "A waypoint's live configuration, in the label `version`; always 1.",
    ("version",),
    Merging.MAX,
)
CONFIG_CHANGED = gauge(
    "pywaypoint_config_changed_timestamp_seconds",
    "When the live configuration went live, in seconds since 1970.",
    (),
    Merging.MAX,
)
CONFIG_FAILED = gauge(
    "pywaypoint_config_failed_timestamp_seconds",
    "When the configuration last had a problem or a doubt, in seconds since 1970.",
    (),
    Merging.MAX,
)
LOOP_LAG = histogram(
    "pywaypoint_event_loop_lag_milliseconds",
    "How late the event loop runs what is due, in milliseconds; measured four times a second.",
)
CERTIFICATE_EXPIRY = gauge(
    "istio_cert_expiry_seconds",
    "Time until our certificate expires, in seconds; of several, the first to expire.",
    (),
    Merging.MIN,
)
BUILD = gauge(
    "istio_build", "Version of this component, in the label `tag`; always 1.", ("component", "tag"), Merging.MAX
)
METRICS_OVERFLOW = counter(
    "pywaypoint_metrics_overflow", "New label sets beyond the limit of series; they are counted under `overflow`."
)
METRICS: tuple[Metric[Any], ...] = (
    CONNECTIONS_OPENED,
    CONNECTIONS_CLOSED,
    RECEIVED_BYTES,
    SENT_BYTES,
    REFUSED,
    LOOP_FAILURES,
    DROPPED_LINES,
    CONFIG_PROBLEMS,
    CONFIG_DOUBTS,
    CONFIG_SILENCE,
    CONFIG_VERSION,
    CONFIG_CHANGED,
    CONFIG_FAILED,
    LOOP_LAG,
    CERTIFICATE_EXPIRY,
    BUILD,
    METRICS_OVERFLOW,
)
"""The metrics of every program."""


class MeshMetrics:
    """All metric families of one program part: of a worker, or of the process that has workers.

    `component` is `proxy` for a waypoint and `ztunnel` for a ztunnel. `tag` is our version. `buckets` are those of
    histograms that do not have Envoy's, by the metric's name.
    """

    def __init__(
        self,
        component: str,
        tag: str,
        metrics: Iterable[Metric[Any]] = (),
        max_series: int = MAX_SERIES,
        buckets: Mapping[str, Buckets] = MappingProxyType({}),
    ) -> None:
        budget = SeriesBudget(max_series)
        self._families: dict[Metric[Any], Family[Any]] = {
            it: Family(it, budget, buckets.get(it.name, BUCKETS)) for it in (*METRICS, *metrics)
        }
        self.connections_opened = self.of(CONNECTIONS_OPENED)
        self.connections_closed = self.of(CONNECTIONS_CLOSED)
        self.received_bytes = self.of(RECEIVED_BYTES)
        self.sent_bytes = self.of(SENT_BYTES)
        self.config_problems = self.of(CONFIG_PROBLEMS).labels(())
        self.config_doubts = self.of(CONFIG_DOUBTS).labels(())
        self.config_silence = self.of(CONFIG_SILENCE).labels(())
        self._refused = self.of(REFUSED)
        self.of(BUILD).labels((component, tag)).add()
        self.of(METRICS_OVERFLOW).adopt((), budget.refused)
        self.reading = threading.Lock()
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    def of(self, metric: Metric[Child]) -> Family[Child]:
        """The family of a metric. Raises LookupError for one that the program doesn't list."""
        family = self._families.get(metric)
        if family is None:
            raise LookupError(f"{metric.name} is not among this program's metrics; add it to the list of them")
        return cast("Family[Child]", family)

    def count_refusal(self, reason: str) -> None:
        """Count a refusal. `reason` is a limit's name in the settings, or a fixed word, never a peer's text."""
        self._refused.labels((reason,)).add()

    def show_dropped_lines(self, log: str, reasons: Mapping[str, Value]) -> None:
        """Export the counts that a log's writer keeps."""
        family = self.of(DROPPED_LINES)
        for reason, value in reasons.items():
            family.adopt((log, reason), value)

    def count_loop_failure(self, loop: str) -> None:
        self.of(LOOP_FAILURES).labels((loop,)).add()

    def config_changed(self, now: float, version: str = "") -> None:
        """Another configuration is live since `now`, in wall-clock seconds."""
        self.of(CONFIG_CHANGED).labels(()).value = int(now)
        if version:
            self.of(CONFIG_VERSION).only((version,)).value = 1

    def config_failed(self, now: float) -> None:
        """The configuration has a problem or a doubt at `now`, in wall-clock seconds."""
        self.of(CONFIG_FAILED).labels(()).value = int(now)

    def certificate_expires(self, seconds: float) -> None:
        """Set the seconds until expiry. There is no value before the first call."""
        self.of(CERTIFICATE_EXPIRY).labels(()).value = int(seconds)

    @property
    def expiring(self) -> tuple[Family[Any], ...]:
        return tuple(it for metric, it in self._families.items() if metric.expires)

    def snapshot(self) -> MetricsSnapshot:
        """Take a snapshot. May be called from any thread."""
        with self.reading:
            return tuple([family.snapshot() for family in self._families.values()])

    def render(self, accept: str, others: Iterable[MetricsSnapshot] = ()) -> tuple[bytes, str]:
        """Render these metrics merged with `others`. Returns the exposition and its content type.

        `accept` is the scraper's Accept header. Raises CannotMerge.
        """
        encoder, content_type = choose_encoder(accept)
        is_openmetrics = content_type.startswith("application/openmetrics-text")
        families = (family.render(is_openmetrics).encode() for family in merge((self.snapshot(), *others)))
        return b"".join((*families, encoder(self._process))), content_type
