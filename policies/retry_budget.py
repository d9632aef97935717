"""Limit the retries of a destination to a share of its requests, so that retries cannot turn a failure into an
overload.

Without a policy, at most 20 % of the active attempts may be retries, and three in any case (Envoy's `retry_budget`,
DestinationRule's `retryBudget`). XBackendTrafficPolicy's `retryConstraint` counts over time: at most `percent` of the
requests of the last `interval_seconds`, and `min_count` per `min_interval_seconds` in any case.
https://gateway-api.sigs.k8s.io/geps/gep-3388/

The share refers to first attempts: with 20 %, an endpoint that fails every request sees 1.2 times what clients sent.
"""

from dataclasses import dataclass

_SLOTS = 10


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """A retry may start if one of the three allowances has room.

    With `interval_seconds` 0, the share refers to active attempts. With `min_count` 0, there is no minimum rate.
    """

    percent: float = 20.0
    interval_seconds: float = 0.0
    min_concurrency: int = 3
    min_count: int = 0
    min_interval_seconds: float = 1.0


DEFAULT_BUDGET = RetryBudget()


class Spending:
    """Retries that count against one destination's budget. Active retries stay counted when the policy changes."""

    __slots__ = ("_policy", "_recent", "_requests", "_retries", "under_way")

    def __init__(self, policy: RetryBudget = DEFAULT_BUDGET) -> None:
        self.under_way = 0
        self.follow(policy)

    def follow(self, policy: RetryBudget) -> None:
        self._policy = policy
        self._requests = Window(policy.interval_seconds) if policy.interval_seconds else None
        self._retries = Window(policy.interval_seconds or 1.0)
        self._recent = Window(policy.min_interval_seconds)

    @property
    def counts_requests(self) -> bool:
        """Whether the caller must report every request with `request`."""
        return self._requests is not None

    def request(self, now: float) -> None:
        if self._requests is not None:
            self._requests.add(now)

    def take(self, active: int, now: float) -> bool:
        """Start a retry if there is room.

        `active` is the number of active attempts, including retries. After True, the caller calls `release` when the
        retry ends.
        """
        if not self._has_room(active, now):
            return False
        self.under_way += 1
        self._retries.add(now)
        self._recent.add(now)
        return True

    def release(self) -> None:
        self.under_way -= 1

    def _has_room(self, active: int, now: float) -> bool:
        policy = self._policy
        if self.under_way < policy.min_concurrency or self._recent.total(now) < policy.min_count:
            return True
        if self._requests is not None:
            return self._retries.total(now) < self._requests.total(now) * policy.percent // 100
        return self.under_way < (active - self.under_way) * policy.percent // 100


class Window:
    """Counts events of the last `seconds`, in ten slots; the oldest slot expires as a whole."""

    __slots__ = ("_counts", "_newest", "_slot_seconds")

    def __init__(self, seconds: float) -> None:
        self._slot_seconds = seconds / _SLOTS
        self._counts = [0] * _SLOTS
        self._newest = 0

    def add(self, now: float) -> None:
        self._turn(now)
        self._counts[self._newest % _SLOTS] += 1

    def total(self, now: float) -> int:
        self._turn(now)
        return sum(self._counts)

    def _turn(self, now: float) -> None:
        slot = int(now / self._slot_seconds)
        for passed in range(self._newest + 1, min(slot, self._newest + _SLOTS) + 1):
            self._counts[passed % _SLOTS] = 0
        self._newest = max(slot, self._newest)
