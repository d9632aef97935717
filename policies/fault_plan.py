"""Faults for some clients, at some times, until it goes wrong: what a FaultPolicy plans.

Of its rules the first whose conditions hold strikes. The plan is given up for good when too many of the requests that
its target answered by itself were errors, and begins anew only when somebody changes it: a test of resilience that
hurts has told what it was to tell.
"""

from collections import deque
from dataclasses import dataclass

from policies.attributes import Peer, RequestHead
from policies.fault import Fault
from policies.schedule import Schedule
from policies.selector import Condition, key_of

_SLICES = 6


@dataclass(frozen=True, slots=True)
class FaultRule:
    name: str
    fault: Fault
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class StopWhen:
    """More than this `share` of at least `min_requests` within the window are errors."""

    share: float
    min_requests: int
    window_seconds: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """`name` sets it apart from all others: the policy, and what it is attached to."""

    name: str
    rules: tuple[FaultRule, ...]
    schedule: Schedule | None = None
    stop_when: StopWhen | None = None

    def find(self, head: RequestHead, peer: Peer, now: float) -> Fault | None:
        """`now` is wall-clock time."""
        if self.schedule is not None and not self.schedule.is_on(now):
            return None
        rules = (rule for rule in self.rules if key_of(rule.conditions, head, peer) is not None)
        rule = next(rules, None)
        return rule.fault if rule is not None else None


class ErrorWatch:
    """Counts the answers of the last window, by slices of it, and remembers whether they ever were too bad. Times are
    those of a clock that never goes back."""

    __slots__ = ("_errors", "_requests", "_slices", "_stop_when", "is_stopped")

    def __init__(self, stop_when: StopWhen) -> None:
        self.is_stopped = False
        self._stop_when = stop_when
        self._slices: deque[_Slice] = deque()
        self._requests = 0
        self._errors = 0

    def record(self, *, is_error: bool, now: float) -> None:
        stop = self._stop_when
        number = int(now * _SLICES / stop.window_seconds)
        slices = self._slices
        while slices and slices[0].number <= number - _SLICES:
            gone = slices.popleft()
            self._requests -= gone.requests
            self._errors -= gone.errors
        if not slices or slices[-1].number != number:
            slices.append(_Slice(number))
        slices[-1].requests += 1
        slices[-1].errors += is_error
        self._requests += 1
        self._errors += is_error
        if self._requests >= stop.min_requests and self._errors > stop.share * self._requests:
            self.is_stopped = True


@dataclass(slots=True)
class _Slice:
    number: int
    requests: int = 0
    errors: int = 0
