"""What Telemetry objects say about one service: its metrics, its access log and its traces.

`T` is the record of an exchange, which expressions and formats read.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from policies.cel import Expression, Value, text_of

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

UNKNOWN = "unknown"
MAX_TAG_VALUE = 256


class LineFormat(Protocol[T_contra]):
    def line(self, record: T_contra, /) -> str:
        """Return a line of a log."""


class ValueFormat(Protocol[T_contra]):
    def value(self, record: T_contra, /) -> Value:
        """Return one value, or None without one."""


@dataclass(frozen=True, slots=True)
class MetricRule(Generic[T]):
    """The override of one metric. A tag whose expression is None is removed."""

    is_disabled: bool = False
    tags: Mapping[str, Expression[T] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogRule(Generic[T]):
    """Write a line if `condition` holds. The format is the program's own if it is None."""

    format: LineFormat[T] | None = None
    condition: Expression[T] | None = None


@dataclass(frozen=True, slots=True)
class SpanTag(Generic[T]):
    """A tag of spans: a request's header, an environment variable of the waypoint, or a formatted text; `default` if
    there is no value."""

    name: str
    header: bytes = b""
    variable: str = ""
    format: ValueFormat[T] | None = None
    default: str = ""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans go: a collector that takes OTLP. `headers` may contain a token."""

    endpoint: str
    is_grpc: bool = True
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_seconds: float = 10.0


def sampling_bound(share: float) -> bytes:
    """Return what the second half of a sampled trace's id is below, in hexadecimal digits.

    This is TraceIdRatioBased of OpenTelemetry's specification: each hop with the same share samples the same traces.
    """
    bound = int(share * 2**64)
    return b"%016x" % bound if bound < 2**64 else b"g"  # above all digits


@dataclass(frozen=True, slots=True)
class TracingRule(Generic[T]):
    """`share` of new traces is sampled; the program's own sampler decides if it is None.

    Spans go to `collector`, or to the program's own one if it is None.
    """

    share: float | None = None
    collector: Collector | None = None
    is_reported: bool = True
    is_propagated: bool = True
    has_istio_tags: bool = True
    tags: tuple[SpanTag[T], ...] = ()
    bound: bytes = field(init=False, repr=False, compare=False)
    """`sampling_bound` of the share, empty without one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", b"" if self.share is None else sampling_bound(self.share))


@dataclass(frozen=True, slots=True)
class TelemetryPolicy(Generic[T]):
    """`metrics` are by the name of the family. `log` replaces the program's own log; None leaves it."""

    metrics: Mapping[str, MetricRule[T]] = field(default_factory=dict)
    log: tuple[LogRule[T], ...] | None = None
    tracing: TracingRule[T] | None = None
    _overrides: tuple[Expression[T], ...] = field(init=False, repr=False, compare=False)
    _disabled: Set[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        overrides = (it for rule in self.metrics.values() for it in rule.tags.values() if it is not None)
        object.__setattr__(self, "_overrides", tuple(overrides))
        disabled = frozenset(name for name, rule in self.metrics.items() if rule.is_disabled)
        object.__setattr__(self, "_disabled", disabled)

    def disables(self, metrics: Set[str]) -> bool:
        """Whether all of these metrics are disabled."""
        return metrics <= self._disabled

    def values(self, record: T) -> tuple[str, ...]:
        """Return the values of all tags that metrics override, in a fixed order."""
        return tuple([_tag_value(it, record) for it in self._overrides])

    def labels(
        self, metric: str, names: tuple[str, ...], labels: tuple[str, ...], values: tuple[str, ...]
    ) -> tuple[str, ...] | None:
        """Return a metric's label values with `values` in place; None if the metric is disabled.

        Further tags follow as pairs of name and value. A removed one is empty, which is the same to Prometheus.
        """
        rule = self.metrics.get(metric)
        if rule is None:
            return labels
        if rule.is_disabled:
            return None
        given = iter(values)
        for name, its in self.metrics.items():
            found = {tag: next(given) if it is not None else "" for tag, it in its.tags.items()}
            if name == metric:
                own = tuple(found.get(it, label) for it, label in zip(names, labels, strict=True))
                more = (part for tag, value in found.items() if tag not in names and value for part in (tag, value))
                return (*own, *more)
        return labels


def _tag_value(expression: Expression[T], record: T) -> str:
    value = expression.value(record)
    return UNKNOWN if value is None or value == "" else text_of(value)[:MAX_TAG_VALUE]
