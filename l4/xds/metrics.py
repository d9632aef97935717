"""Metrics of discovery, under ztunnel's names. The client counts; a program shows the counts."""

from typing import Any

from l4.telemetry.metrics import MeshMetrics, Metric, Value, counter

TERMINATIONS = counter(
    "istio_xds_connection_terminations",
    "Ends of streams to the discovery server: `ConnectionError`, it could not be reached or did not accept us; "
    "`Error`, the stream broke; `Complete`, the server ended it.",
    ("reason",),
)
MESSAGES = counter("istio_xds_message", "Responses of the discovery server, by type of resource.", ("url",))
MESSAGE_BYTES = counter("istio_xds_message_bytes", "Bytes of the resources in these responses.", ("url",))
REFUSED = counter(
    "pywaypoint_xds_refused_resources",
    "Resources in these responses that could not be understood; their last good versions stay in force.",
    ("url",),
)
METRICS: tuple[Metric[Any], ...] = (TERMINATIONS, MESSAGES, MESSAGE_BYTES, REFUSED)

UNREACHED, BROKEN, ENDED = "ConnectionError", "Error", "Complete"


class Counts:
    """What a client has counted, of these types of resources."""

    def __init__(self, type_urls: tuple[str, ...]) -> None:
        self.terminations = {reason: Value() for reason in (UNREACHED, BROKEN, ENDED)}
        self.messages = {url: Value() for url in type_urls}
        self.bytes = {url: Value() for url in type_urls}
        self.refused = {url: Value() for url in type_urls}

    def show(self, metrics: MeshMetrics) -> None:
        """Export the counts."""
        for metric, values in (
            (TERMINATIONS, self.terminations),
            (MESSAGES, self.messages),
            (MESSAGE_BYTES, self.bytes),
            (REFUSED, self.refused),
        ):
            for label, value in values.items():
                metrics.of(metric).adopt((label,), value)
