"""FaultPolicy (pywaypoint.dev/v1alpha1): fault injection for selected clients and times, validated like its CRD.

Delay and abort are those of Istio's VirtualService, but the percentage is required, since Istio's default is never.
`plan_of` compiles the object.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from l4.config.durations import Duration, seconds_of
from l4.config.resources import Resource, Strict
from l4.discovery.objects import Metadata
from policies.fault import Abort, Delay, Fault
from policies.fault_plan import FaultPlan, FaultRule, StopWhen
from policies.grpc_status import CODES, HTTP_STATUSES, Failure
from policies.path_normalization import PathNormalization
from policies.schedule import MAX_LASTS_SECONDS, Schedule, check_cron
from waypoint.config.api_fields import SectionName, repeated
from waypoint.config.ours.direct_policy import Target
from waypoint.config.ours.policy_api import ClientSelectors, TargetRefs
from waypoint.config.ours.selectors import conditions_of

Percentage = Annotated[float, Meta(ge=0, le=100)]
Time = Annotated[datetime, Meta(tz=True)]


class FaultDelay(Struct, frozen=True, rename="camel"):
    fixed_delay: Duration
    percentage: Percentage

    def __post_init__(self) -> None:
        if seconds_of(self.fixed_delay) is None:
            raise ValueError("fixedDelay must be more than 0; otherwise remove the delay")


class FaultAbort(Struct, frozen=True, rename="camel"):
    percentage: Percentage
    http_status: Annotated[int, Meta(ge=200, le=599)] | None = None
    grpc_status: Failure | None = None

    def __post_init__(self) -> None:
        if (self.http_status is None) == (self.grpc_status is None):
            raise ValueError("set either httpStatus or grpcStatus; it is translated for clients of the other protocol")


class FaultRuleSpec(Struct, frozen=True, rename="camel"):
    name: SectionName | None = None
    client_selectors: ClientSelectors = ()
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None

    def __post_init__(self) -> None:
        if self.delay is None and self.abort is None:
            raise ValueError("add delay or abort: without them, the rule has no effect")
        if distinct := [name for selector in self.client_selectors for name in selector.distinct]:
            raise ValueError(f"clientSelectors: {distinct[0]}: Distinct is valid only for rate limits")


class CronSchedule(Struct, frozen=True):
    """In UTC."""

    expression: Annotated[str, Meta(max_length=128)]
    duration: Duration

    def __post_init__(self) -> None:
        check_cron(self.expression)
        if not 0 < (seconds_of(self.duration) or 0) <= MAX_LASTS_SECONDS:
            raise ValueError("duration must be more than 0 and at most 24h")


class FaultSchedule(Struct, frozen=True):
    from_: Time | None = field(name="from", default=None)
    until: Time | None = None
    cron: CronSchedule | None = None

    def __post_init__(self) -> None:
        if self.from_ is not None and self.until is not None and self.from_ >= self.until:
            raise ValueError("until must be after from")


class StopWhenSpec(Struct, frozen=True, rename="camel"):
    error_percentage: Percentage
    min_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 20
    window: Duration = "1m"

    def __post_init__(self) -> None:
        if not 1 <= (seconds_of(self.window) or 0) <= 3600:
            raise ValueError("window must be from 1s to 1h")


class FaultSpec(Struct, frozen=True, rename="camel"):
    target_refs: TargetRefs
    rules: Annotated[tuple[FaultRuleSpec, ...], Meta(min_length=1, max_length=16)]
    schedule: FaultSchedule | None = None
    stop_when: StopWhenSpec | None = None

    def __post_init__(self) -> None:
        if (name := repeated(rule.name for rule in self.rules if rule.name is not None)) is not None:
            raise ValueError(f"rules: two rules have the name {name}; rename one")


class FaultPolicy(Strict, frozen=True, rename="camel"):
    metadata: Metadata
    spec: FaultSpec


def plan_of(resource: Resource[FaultPolicy], target: Target, normalization: PathNormalization) -> FaultPlan:
    spec = resource.value.spec
    return FaultPlan(
        name=f"{resource.key} for {target}",
        rules=tuple(_rule(rule.name or str(index), rule, normalization) for index, rule in enumerate(spec.rules)),
        schedule=_schedule(spec.schedule) if spec.schedule is not None else None,
        stop_when=_stop_when(spec.stop_when) if spec.stop_when is not None else None,
    )


def _rule(name: str, rule: FaultRuleSpec, normalization: PathNormalization) -> FaultRule:
    delay = rule.delay
    fault = Fault(
        Delay(seconds_of(delay.fixed_delay) or 0.0, delay.percentage / 100) if delay is not None else None,
        _abort(rule.abort) if rule.abort is not None else None,
    )
    return FaultRule(name, fault, conditions_of(rule.client_selectors, normalization))


def _abort(abort: FaultAbort) -> Abort:
    chance = abort.percentage / 100
    if abort.http_status is not None:
        return Abort(abort.http_status, chance)
    code = CODES[abort.grpc_status or ""]
    return Abort(HTTP_STATUSES[code], chance, code)


def _schedule(schedule: FaultSchedule) -> Schedule:
    cron = schedule.cron
    return Schedule(
        begins=schedule.from_.timestamp() if schedule.from_ is not None else None,
        ends=schedule.until.timestamp() if schedule.until is not None else None,
        cron=cron.expression if cron is not None else "",
        lasts_seconds=(seconds_of(cron.duration) or 0.0) if cron is not None else 0.0,
    )


def _stop_when(stop: StopWhenSpec) -> StopWhen:
    return StopWhen(stop.error_percentage / 100, stop.min_requests, seconds_of(stop.window) or 0.0)
