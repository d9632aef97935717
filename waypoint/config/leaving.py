"""Services that have just left a waypoint, because a label names another one now or none.

Others learn that later than the waypoint does: ztunnels still open tunnels here, and clients still use their
connections. The waypoint goes on serving such a Service for a while, by the configuration of now, and asks clients to
connect anew.
"""

from collections.abc import Callable, Iterator

from l4.discovery.index import Update
from l4.discovery.registry import Registry
from l4.discovery.workload import Service


class Leaving:
    """Remembers the services that left the waypoint `gateway` (namespace, name) less than `seconds` ago."""

    def __init__(self, gateway: tuple[str, str], seconds: float, now: Callable[[], float]) -> None:
        self._gateway = gateway
        self._seconds = seconds
        self._now = now
        self._until: dict[str, float] = {}

    @property
    def rest_seconds(self) -> float | None:
        """The time until one of them is no longer served, or None if there is none."""
        return max(min(self._until.values()) - self._now(), 0.0) if self._until else None

    def follow(self, before: Registry | None, after: Registry, update: Update | None) -> frozenset[str]:
        """Return the hostnames of those that are still to be served. `update` is the difference, if it is known."""
        now = self._now()
        for was, its in _moved(before, after, update):
            if its is None or self._is_bound(its):
                self._until.pop(was.hostname, None)
            elif self._is_bound(was):
                self._until[was.hostname] = now + self._seconds
        self._until = {hostname: until for hostname, until in self._until.items() if until > now}
        return frozenset(self._until)

    def _is_bound(self, service: Service) -> bool:
        return any((it.namespace, it.gateway) == self._gateway for it in service.waypoints)


def _moved(before: Registry | None, after: Registry, update: Update | None) -> Iterator[tuple[Service, Service | None]]:
    """Yield each service that there was, and what it is now."""
    if before is None:
        return
    if update is None:
        for was in before.services.values():
            yield was, after.services.get(was.hostname)
    else:
        for moved in update.services:
            if moved.before is not None:
                yield moved.before, moved.after
