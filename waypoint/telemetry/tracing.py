"""Start the tracer. The OpenTelemetry SDK costs 0.1 s and 20 MiB, so it is imported only if an OTLP endpoint is
configured.
"""

from typing import TYPE_CHECKING

from waypoint.telemetry.tracing_settings import TracingSettings

if TYPE_CHECKING:
    from waypoint.telemetry.spans import Tracer


def start_tracer(settings: TracingSettings | None) -> "Tracer | None":
    if settings is None:
        return None
    from waypoint.telemetry.spans import Tracer

    return Tracer(settings)
