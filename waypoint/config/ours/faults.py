"""FaultPolicy → the fault plan of the data path."""

from l4.config.resources import Resource
from policies.fault import Abort, Delay, Fault
from policies.fault_plan import FaultPlan, FaultRule, StopWhen
from policies.grpc_status import CODES, HTTP_STATUSES
from policies.path_normalization import PathNormalization
from policies.schedule import Schedule
from waypoint.config.gateway_api.routes import parse_duration
from waypoint.config.ours.direct_policy import Target
from waypoint.config.ours.fault_policy import FaultAbort, FaultPolicy, FaultRuleSpec, FaultSchedule, StopWhenSpec
from waypoint.config.ours.selectors import conditions_of


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
        Delay(parse_duration(delay.fixed_delay) or 0.0, delay.percentage / 100) if delay is not None else None,
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
        lasts_seconds=(parse_duration(cron.duration) or 0.0) if cron is not None else 0.0,
    )


def _stop_when(stop: StopWhenSpec) -> StopWhen:
    return StopWhen(stop.error_percentage / 100, stop.min_requests, parse_duration(stop.window) or 0.0)
