"""How many spans no collector got."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from l4.telemetry.metrics import Value, counter

SPANS_DROPPED = counter(
    "pywaypoint_spans_dropped",
    "Spans that no collector got: `full`, too many were waiting; `failed`, an export failed.",
    ("reason",),
)


@dataclass(frozen=True, slots=True)
class DroppedSpans:
    """Of all collectors."""

    full: Value = field(default_factory=Value)
    failed: Value = field(default_factory=Value)

    @property
    def by_reason(self) -> Mapping[str, Value]:
        return {"full": self.full, "failed": self.failed}
