"""Metrics of serving discovery. The service counts; the controller shows the counts."""

from typing import Any

from l4.telemetry.metrics import MeshMetrics, Metric, Value, counter, gauge
from l4.telemetry.samples import Merging
from l4.xds import addresses, authorizations

CLIENTS = gauge("pywaypoint_discovery_clients", "Open streams of clients of the discovery service.", (), Merging.SUM)
RESPONSES = counter("pywaypoint_discovery_responses", "Responses to these clients, by type of resource.", ("url",))
REFUSALS = counter(
    "pywaypoint_discovery_refusals",
    "Responses of which a client refused resources (NACK), by type; the log has the resources and the reasons.",
    ("url",),
)
METRICS: tuple[Metric[Any], ...] = (CLIENTS, RESPONSES, REFUSALS)


class Counts:
    """What the service has counted, of the types of resources that it serves."""

    def __init__(self) -> None:
        urls = (addresses.TYPE, authorizations.TYPE)
        self.clients = Value()
        self.responses = {url: Value() for url in urls}
        self.refusals = {url: Value() for url in urls}

    def show(self, metrics: MeshMetrics) -> None:
        """Export the counts."""
        metrics.of(CLIENTS).adopt((), self.clients)
        for metric, values in ((RESPONSES, self.responses), (REFUSALS, self.refusals)):
            for url, value in values.items():
                metrics.of(metric).adopt((url,), value)
