"""All filters. A new one is listed in `FILTERS`; the order of filters is `policies.filters.ORDER`."""

from typing import Any, TypeVar

from l4.config.settings import Section
from l4.telemetry.metrics import Metric
from waypoint.config.snapshot import Snapshot
from waypoint.filters.cors import CrossOrigin
from waypoint.filters.external_auth import ExternalAuthorization
from waypoint.filters.fault import Faults
from waypoint.filters.filter import Environment, Filter
from waypoint.filters.mirror import Mirroring
from waypoint.filters.rate_limit import RateLimiting
from waypoint.filters.session import Sessions

FILTERS: tuple[type[Filter[Any]], ...] = (
    RateLimiting,
    ExternalAuthorization,
    Faults,
    CrossOrigin,
    Sessions,
    Mirroring,
)
METRICS: tuple[Metric[Any], ...] = tuple(metric for it in FILTERS for metric in it.metrics)
SETTINGS: tuple[type[Section], ...] = tuple(section for it in FILTERS for section in it.settings)

F = TypeVar("F", bound=Filter[Any])


class LiveFilters:
    """One filter of each kind, with its state. Without an environment they can only decide."""

    def __init__(self, environment: Environment | None = None) -> None:
        self._filters = [it() for it in FILTERS]
        self.by_type: dict[type, Filter[Any]] = {policy: it for it in self._filters for policy in it.types}
        if environment is not None:
            for it in self._filters:
                it.begin(environment)

    def of(self, policy: object) -> Filter[Any]:
        """Return the filter that enforces the policy."""
        return self.by_type[type(policy)]

    def get(self, kind: type[F]) -> F:
        return next(it for it in self._filters if isinstance(it, kind))

    def reconcile(self, snapshot: Snapshot) -> None:
        """Tell the filters of a new configuration, before it is in force."""
        for it in self._filters:
            it.reconcile([policy for policy in snapshot.policies if type(policy) in it.types])


ASKING = LiveFilters()
"""The filters of `explain` and `replay`."""
