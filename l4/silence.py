"""Tells how old the knowledge of a server's objects is: in a metric, in readiness and in the log.

The server is an API server or a control plane. A program goes on with the last objects while it is away, so nothing
else would show for how long. A watch of an API server brings a bookmark about once a minute. For a kind without any
change, an API server whose etcd does not report its progress sends none. The client begins a watch anew after
SILENT_SECONDS, so a silence that long is normal, and the new one gets REQUEST_SECONDS for its connection. Objects that
are older than both together are stale.
"""

import asyncio
import logging
from collections.abc import Callable

from l4.kubernetes.client import REQUEST_SECONDS, SILENT_SECONDS
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics

STALE_SECONDS = SILENT_SECONDS + REQUEST_SECONDS
_LOOK_SECONDS = 1.0


class Silence:
    """`silent_seconds` returns the age of what is known. Stale objects leave the program ready."""

    def __init__(
        self,
        log: logging.Logger,
        readiness: Readiness,
        metrics: MeshMetrics,
        silent_seconds: Callable[[], float],
        server: str = "the API server",
    ) -> None:
        self._log = log
        self._readiness = readiness
        self._metrics = metrics
        self._silent_seconds = silent_seconds
        self._server = server
        self._longest = 0.0
        """The greatest age since the objects became stale; 0 while they are not."""

    async def follow(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Tell the present age. The log has one line when the objects become stale, and one when they no longer are."""
        seconds = self._silent_seconds()
        self._metrics.config_silence.value = int(seconds)
        was = self._longest
        self._longest = max(was, seconds) if seconds > STALE_SECONDS else 0.0
        sentence = ""
        if self._longest:
            sentence = (
                f"{self._server} last confirmed some objects {seconds:.0f} s ago; the last known ones stay live, and "
                "their changes wait until it answers"
            )
            if not was:
                self._log.warning("%s", sentence)
        elif was:
            self._log.info("%s confirms all objects again; they were up to %.0f s old", self._server, was)
        self._readiness.concern("age of the configuration", sentence)
