"""XBackendTrafficPolicy (gateway.networking.x-k8s.io/v1alpha1): retry budget and session persistence of a Service.

https://gateway-api.sigs.k8s.io/geps/gep-3388/ and gep-1619
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from l4.config.documents import ObjectKey
from l4.config.durations import Duration, seconds_of
from l4.config.resources import Strict
from l4.discovery.objects import Metadata
from policies.retry_budget import RetryBudget
from policies.session import SessionPersistence
from waypoint.config.api_fields import ObjectName
from waypoint.config.gateway_api import routes as api
from waypoint.config.gateway_api.sessions import session_of

_LONGEST_INTERVAL = 3600.0


class ServiceRef(Struct, frozen=True):
    name: ObjectName
    kind: Literal["Service"]
    group: Literal[""]

    @property
    def section_name(self) -> None:
        """Always None, because the kind has no sections: it applies to all ports."""
        return None


class Budget(Struct, frozen=True):
    percent: Annotated[int, Meta(ge=0, le=100)] = 20
    interval: Duration = "10s"

    def __post_init__(self) -> None:
        if not 1.0 <= (seconds_of(self.interval) or 0.0) <= _LONGEST_INTERVAL:
            raise ValueError(f"interval {self.interval} must be from 1s to 1h")


class RequestRate(Struct, frozen=True):
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    interval: Duration = "1s"

    def __post_init__(self) -> None:
        if not 0.001 <= (seconds_of(self.interval) or 0.0) <= _LONGEST_INTERVAL:
            raise ValueError(f"interval {self.interval} must be from 1ms to 1h")


class RetryConstraint(Struct, frozen=True, rename="camel"):
    budget: Budget = Budget()
    min_retry_rate: RequestRate = RequestRate()


class BackendTrafficSpec(Struct, frozen=True, rename="camel"):
    target_refs: Annotated[tuple[ServiceRef, ...], Meta(min_length=1, max_length=16)]
    retry_constraint: RetryConstraint | None = None
    session_persistence: api.SessionPersistence | None = None


class XBackendTrafficPolicy(Strict, frozen=True):
    metadata: Metadata
    spec: BackendTrafficSpec


class BackendTraffic(Struct, frozen=True):
    """The settings that a policy adds to a destination."""

    retry_budget: RetryBudget | None
    session: SessionPersistence | None


def traffic_of(key: ObjectKey, spec: BackendTrafficSpec) -> BackendTraffic:
    constraint, session = spec.retry_constraint, spec.session_persistence
    return BackendTraffic(
        retry_budget=_budget(constraint) if constraint is not None else None,
        session=session_of(session, str(key), b"/") if session is not None else None,
    )


def _budget(constraint: RetryConstraint) -> RetryBudget:
    """The share and the minimum rate refer to intervals, never to active requests."""
    budget, least = constraint.budget, constraint.min_retry_rate
    return RetryBudget(
        percent=float(budget.percent),
        interval_seconds=seconds_of(budget.interval) or 0.0,
        min_concurrency=0,
        min_count=least.count,
        min_interval_seconds=seconds_of(least.interval) or 1.0,
    )
