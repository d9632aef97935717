"""Limit the retries of a destination to a share of its requests, so that retries cannot turn a failure into an
overload.

Without a policy, at most 20 % of the active attempts may be retries, and three in any case (Envoy's `retry_budget`,
DestinationRule's `retryBudget`). XBackendTrafficPolicy's `retryConstraint` counts over time: at most `percent` of the
requests of the last `interval_seconds`, and `min_count` per `min_interval_seconds` in any case.
https://gateway-api.sigs.k8s.io/geps/gep-3388/

The share refers to first attempts: with 20 %, an endpoint that fails every request sees 1.2 times what clients sent.
"""

from dataclasses import dataclass, replace

from policies.shared_counts import SharedCounts

_SLOTS = 10
_COUNT_BITS = 32
_UNDER_WAY, _REQUESTS, _RETRIES, _RECENT = (3 + number for number in (0, 1, 1 + _SLOTS, 1 + 2 * _SLOTS))
"""Where workers share the counts, behind those of `policies.circuit`."""
SHARED = _RECENT + _SLOTS
"""Counts that a worker shares per destination, with those of `policies.circuit`."""


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

    def divided(self, workers: int) -> "RetryBudget":
        """Return the budget of one of several workers that do not share their counts."""
        concurrency, count = (it and max(it // workers, 1) for it in (self.min_concurrency, self.min_count))
        return replace(self, min_concurrency=concurrency, min_count=count)


DEFAULT_BUDGET = RetryBudget()


class Spending:
    """Retries that count against one destination's budget. Active retries stay counted when the policy changes.

    `under_way` are retries of this worker.
    """

    __slots__ = ("_policy", "_recent", "_requests", "_retries", "_shared", "under_way")

    def __init__(self, policy: RetryBudget = DEFAULT_BUDGET) -> None:
        self.under_way = 0
        self._shared: SharedCounts | None = None
        self.follow(policy)

    def follow(self, policy: RetryBudget) -> None:
        self._policy = policy
        shared = self._shared
        self._requests = Window(policy.interval_seconds, shared, _REQUESTS) if policy.interval_seconds else None
        self._retries = Window(policy.interval_seconds or 1.0, shared, _RETRIES)
        self._recent = Window(policy.min_interval_seconds, shared, _RECENT)

    def share(self, shared: SharedCounts | None) -> None:
        """Count together with other workers from now on, or no longer."""
        self._shared = shared
        self.follow(self._policy)
        if shared is not None:
            shared.put(_UNDER_WAY, self.under_way)

    @property
    def all_under_way(self) -> int:
        """Active retries of all workers."""
        return self.under_way if self._shared is None else self.under_way + self._shared.others(_UNDER_WAY)

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
        self._count(1)
        self._retries.add(now)
        self._recent.add(now)
        return True

    def release(self) -> None:
        self._count(-1)

    def _count(self, change: int) -> None:
        self.under_way += change
        if self._shared is not None:
            self._shared.put(_UNDER_WAY, self.under_way)

    def _has_room(self, active: int, now: float) -> bool:
        policy, under_way = self._policy, self.all_under_way
        if under_way < policy.min_concurrency or self._recent.total(now) < policy.min_count:
            return True
        if self._requests is not None:
            return self._retries.total(now) < self._requests.total(now) * policy.percent // 100
        return under_way < (active - under_way) * policy.percent // 100


class Window:
    """Counts events of the last `seconds`, in ten slots; the oldest slot expires as a whole.

    With `shared`, those of other workers are part of the total. A shared count begins with the number of its slot, so
    that it expires without its worker.
    """

    __slots__ = ("_counts", "_first", "_newest", "_shared", "_slot_seconds")

    def __init__(self, seconds: float, shared: SharedCounts | None = None, first: int = 0) -> None:
        self._slot_seconds = seconds / _SLOTS
        self._counts = [0] * _SLOTS
        self._newest = 0
        self._shared = shared
        self._first = first
        if shared is not None:
            for slot in range(_SLOTS):
                shared.put(first + slot, 0)

    def add(self, now: float) -> None:
        self._turn(now)
        slot = self._newest % _SLOTS
        self._counts[slot] += 1
        if self._shared is not None:
            self._shared.put(self._first + slot, self._newest << _COUNT_BITS | self._counts[slot])

    def total(self, now: float) -> int:
        self._turn(now)
        total = sum(self._counts)
        if self._shared is not None:
            for count in self._shared.each_of_others(self._first, _SLOTS):
                if count >> _COUNT_BITS > self._newest - _SLOTS:
                    total += count & (1 << _COUNT_BITS) - 1
        return total

    def _turn(self, now: float) -> None:
        slot = int(now / self._slot_seconds)
        for passed in range(self._newest + 1, min(slot, self._newest + _SLOTS) + 1):
            self._counts[passed % _SLOTS] = 0
        self._newest = max(slot, self._newest)
