"""The filter of FaultPolicies, and of a VirtualService's `fault`.

The FaultPolicy comes first. The route's own fault applies to requests for which the policy has none. A plan whose
target fails too often stops until somebody changes it (`policies.fault_plan`).
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

from l4.telemetry.metrics import counter, gauge
from l4.telemetry.samples import Merging
from policies.fault import Fault
from policies.fault_plan import ErrorWatch, FaultPlan
from policies.grpc_status import HTTP_STATUSES
from policies.schedule import Schedule
from policies.verdict import ResponseFlag
from waypoint.config.words import conditions_words, percent, seconds
from waypoint.errors import FaultInjected
from waypoint.filters.filter import Act, Environment, Filter, Filtering, Waiting, waits
from waypoint.filters.part import Part
from waypoint.telemetry.record import ExchangeRecord

log = logging.getLogger(__name__)

_GRPC_ERRORS = frozenset(str(code) for code, status in HTTP_STATUSES.items() if status >= 500)

STOPPED_FAULTS = gauge(
    "pywaypoint_fault_stopped", "1 for a fault plan that stopped because its target fails.", ("plan",), Merging.MAX
)
FAULTS_INJECTED = counter(
    "pywaypoint_fault_injected", "Faults that a FaultPolicy injected: `delay` or `abort`.", ("plan", "fault")
)
_INJECTED = {ResponseFlag.DELAY_INJECTED: "delay", ResponseFlag.FAULT_INJECTED: "abort"}


class Faults(Filter[Fault | FaultPlan]):
    types = (FaultPlan, Fault)
    metrics = (STOPPED_FAULTS, FAULTS_INJECTED)

    def __init__(self) -> None:
        self._watched: dict[str, tuple[FaultPlan, ErrorWatch]] = {}

    def begin(self, environment: Environment) -> None:
        self._stopped = environment.metrics.of(STOPPED_FAULTS)
        self._injected = environment.metrics.of(FAULTS_INJECTED)

    def reconcile(self, policies: Iterable[Fault | FaultPlan]) -> None:
        """Forget plans that are gone, and the state of those that changed."""
        before, self._watched = self._watched, {}
        for plan in policies:
            if isinstance(plan, FaultPlan) and plan.stop_when is not None:
                known = before.pop(plan.name, None)
                is_same = known is not None and known[0] == plan
                self._watched[plan.name] = known if known and is_same else (plan, ErrorWatch(plan.stop_when))
                self._stopped.labels((plan.name,)).value = int(self._is_stopped(plan))
        for name in before:
            self._stopped.labels((name,)).value = 0

    def request_head(self, policy: Fault | FaultPlan, request: Filtering) -> Act | None:
        fault: Fault | None
        if isinstance(policy, Fault):
            fault = policy
        else:
            if policy.name in self._watched:
                request.attach(_Watching(self, policy, request))
            fault = None if self._is_stopped(policy) else policy.find(request.head, request.peer, request.now)
        if fault is None:
            return None
        if isinstance(policy, FaultPlan):
            request.attach(_Counting(self, policy))
        request.settle(self)
        delay_seconds, abort = fault.strike(request.strikes)
        if abort is not None:
            request.answer(FaultInjected(abort))
        return waits(partial(_delay, request, delay_seconds)) if delay_seconds else None

    def count(self, plan: FaultPlan, flags: tuple[ResponseFlag, ...]) -> None:
        """Count the faults that struck a request, which its flags tell."""
        for flag, fault in _INJECTED.items():
            if flag in flags:
                self._injected.labels((plan.name, fault)).add()

    def record(self, plan: FaultPlan, status: int, grpc_status: str) -> None:
        """Count the end of a request that was sent to the plan's target. `status` is 0 if the client left."""
        watched = self._watched.get(plan.name)
        if watched is None or watched[1].is_stopped or not status:
            return
        watched[1].record(is_error=status >= 500 or grpc_status in _GRPC_ERRORS, now=time.monotonic())
        if self._is_stopped(plan):
            self._stopped.labels((plan.name,)).value = 1
            log.warning(
                "%s: faults stopped because too many requests failed; change the policy to start again", plan.name
            )

    def _is_stopped(self, plan: FaultPlan) -> bool:
        watched = self._watched.get(plan.name)
        return watched is not None and watched[1].is_stopped

    def words(self, policy: Fault | FaultPlan) -> Iterator[str]:
        return fault_words(policy) if isinstance(policy, Fault) else _plan_words(policy)


class _Watching(Part):
    """Counts the responses of a plan's target."""

    __slots__ = ("_faults", "_plan", "_request")

    def __init__(self, faults: Faults, plan: FaultPlan, request: Filtering) -> None:
        self._faults = faults
        self._plan = plan
        self._request = request

    def end(self, record: ExchangeRecord) -> None:
        if self._request.cluster is not None:
            self._faults.record(self._plan, record.status, record.grpc_status)


class _Counting(Part):
    """Counts the faults of a plan that struck a request."""

    __slots__ = ("_faults", "_plan")

    def __init__(self, faults: Faults, plan: FaultPlan) -> None:
        self._faults = faults
        self._plan = plan

    def end(self, record: ExchangeRecord) -> None:
        self._faults.count(self._plan, record.flags)


async def _delay(request: Filtering, delay_seconds: float, waiting: Waiting) -> None:
    assert request.record is not None
    request.record.flags += (ResponseFlag.DELAY_INJECTED,)
    await asyncio.sleep(delay_seconds)


# -- in words ------------------------------------------------------------------------------------------------------


def fault_words(fault: Fault) -> Iterator[str]:
    if fault.delay is not None:
        yield f"delay {percent(fault.delay.chance)} by {seconds(fault.delay.seconds)}"
    if fault.abort is not None:
        status = fault.abort.grpc_status
        yield f"abort {percent(fault.abort.chance)} with {fault.abort.status if status is None else f'gRPC {status}'}"


def _plan_words(plan: FaultPlan) -> Iterator[str]:
    when = _schedule(plan.schedule) if plan.schedule is not None else ""
    for rule in plan.rules:
        whom = conditions_words(rule.conditions)
        yield from (f"{words}{whom}{when} ({plan.name} rules[{rule.name}])" for words in fault_words(rule.fault))
    if plan.stop_when is not None:
        stop = plan.stop_when
        bound = f"{percent(stop.share)} of {stop.min_requests} or more requests in {seconds(stop.window_seconds)}"
        yield f"stop faults when more than {bound} fail"


def _schedule(schedule: Schedule) -> str:
    words = f" from {_time(schedule.begins)}" if schedule.begins is not None else ""
    words += f" until {_time(schedule.ends)}" if schedule.ends is not None else ""
    return f"{words} at {schedule.cron} for {seconds(schedule.lasts_seconds)}" if schedule.cron else words


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
