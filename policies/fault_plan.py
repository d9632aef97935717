"""FaultPolicy: inject faults for selected clients, on a schedule, until too many errors occur.

The first rule whose conditions hold applies. If too many of the target's own responses are errors, the plan stops for
good, because the resilience test has failed. It starts again only when the policy is changed.
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
    """Stop if more than `share` of at least `min_requests` requests within the window are errors."""

    share: float
    min_requests: int
    window_seconds: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A compiled FaultPolicy. `name` is unique: it combines the policy and its target."""

    name: str
    rules: tuple[FaultRule, ...]
    schedule: Schedule | None = None
    stop_when: StopWhen | None = None

    def find(self, head: RequestHead, peer: Peer, now: float) -> Fault | None:
        """Return the fault for this request, or None. `now` is wall-clock time."""
        if self.schedule is not None and not self.schedule.is_on(now):
            return None
        rules = (rule for rule in self.rules if key_of(rule.conditions, head, peer) is not None)
        rule = next(rules, None)
        return rule.fault if rule is not None else None


class ErrorWatch:
    """Counts responses in a sliding window, and remembers whether the error share ever exceeded the limit.

    Times come from a monotonic clock.
    """

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
