"""How many requests may pass: token buckets, one for each rule of a limit or for each value that it tells apart.

A bucket is one number, the moment when it will be full again; a full bucket and one that nobody knows are the same, so
that forgetting costs nothing once a client has been quiet. Requests refill it one by one, evenly spread over the unit,
and at most `capacity` of them may come at once. A request that any rule refuses takes nothing from the others.

Levels outlive configurations: a bucket is found by the name of its rule, and keeps the share of its capacity that was
left when the limit changes.

What is known of distinct values is bounded: 2,097,152 buckets of 16 bytes. They stand in sets of eight, as in a
processor's cache; in a set that is full of unfinished business the bucket nearest to being full is given up. So it errs
towards letting through, and never lets one client pay for another. The digest of a value is keyed by Python's own seed,
so that nobody can aim at a neighbour's set.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, floor
from mmap import mmap

from policies.attributes import Headers, Peer, RequestHead
from policies.selector import Condition, Key, key_of

MAX_BUCKETS = 1 << 21
_WAYS = 8
_DIGEST_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Limit:
    """`capacity` tokens at most, and `per_second` new ones; the policy says so many `requests` a `unit`."""

    requests: int
    capacity: float
    per_second: float
    unit: str = "second"

    def level(self, full_at: float, now: float) -> float:
        """The tokens in a bucket that will be full at `full_at`."""
        return self.capacity if full_at <= now else max(0.0, self.capacity - (full_at - now) * self.per_second)

    def full_after(self, level: float, now: float) -> float:
        return now + (self.capacity - level) / self.per_second


@dataclass(frozen=True, slots=True)
class RateRule:
    """`bucket` tells its buckets from all others. A shadow is counted and refuses nobody. `labels` name, for each
    condition, what it tells apart, or nothing; there are none when no condition does."""

    name: str
    bucket: str
    limit: Limit
    conditions: tuple[Condition, ...] = ()
    labels: tuple[str, ...] = ()
    is_shadow: bool = False


Measured = tuple[tuple[RateRule, Key], ...]
"""The rules that are for a request, with what they tell it apart by."""


@dataclass(frozen=True, slots=True)
class LimitService:
    """Who counts for all replicas together; `address` is `host:port`, empty when there is none after all."""

    address: str
    domain: str
    timeout_seconds: float
    is_fail_open: bool


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Every rule whose conditions hold counts. `policy` is the object that says so. With a `service` no bucket of ours
    is asked."""

    policy: str
    rules: tuple[RateRule, ...]
    has_headers: bool = False
    is_resource_exhausted: bool = False
    """What a refused gRPC call is told: RESOURCE_EXHAUSTED instead of UNAVAILABLE."""
    service: LimitService | None = None

    def measure(self, head: RequestHead, peer: Peer) -> Measured:
        keys = ((rule, key_of(rule.conditions, head, peer)) for rule in self.rules)
        return tuple((rule, key) for rule, key in keys if key is not None)


@dataclass(slots=True)
class Quota:
    """What a client is told of the tightest of the buckets it was measured by. `over` and `shadowed` are the rules that
    refused, and that would have; `headers` are for its response in any case."""

    limits: RateLimits
    limit: int = 0
    remaining: int = 0
    reset_seconds: int = 0
    over: tuple[RateRule, ...] = ()
    shadowed: tuple[RateRule, ...] = ()
    headers: Headers = field(default_factory=list)

    def mark(self, headers: Headers) -> None:
        """Tell the client, if it is to be told (draft-ietf-httpapi-ratelimit-headers-03, as Envoy writes it)."""
        headers += self.headers
        if self.limits.has_headers and self.limit:
            headers.append((b"x-ratelimit-limit", b"%d" % self.limit))
            headers.append((b"x-ratelimit-remaining", b"%d" % self.remaining))
            headers.append((b"x-ratelimit-reset", b"%d" % self.reset_seconds))


class Buckets:
    """All buckets of a process. Times are those of a clock that never goes back."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._shared: dict[str, float] = {}
        self._max_buckets = max_buckets
        self._table: _Table | None = None

    def take(self, limits: RateLimits, head: RequestHead, peer: Peer, now: float) -> Quota | None:
        """Take a token of each bucket that counts for the request, unless one of them is empty; None when no rule is
        for this request."""
        found: list[tuple[RateRule, int, float]] = []
        for rule in limits.rules:
            key = key_of(rule.conditions, head, peer)
            if key is None:
                continue
            digest = hash((rule.bucket, key)) & _DIGEST_MASK or 1 if rule.labels else 0
            full_at = self._table_of_distinct().get(digest) if digest else self._shared.get(rule.bucket, 0.0)
            found.append((rule, digest, rule.limit.level(full_at, now)))
        if not found:
            return None
        quota = Quota(
            limits,
            over=tuple(rule for rule, _, level in found if level < 1 and not rule.is_shadow),
            shadowed=tuple(rule for rule, _, level in found if level < 1 and rule.is_shadow),
        )
        rule, _, level = min(found, key=_tightness)
        if not quota.over:
            for each, digest, its in found:
                self._put(each, digest, its - 1 if its >= 1 else its, now)
            level = max(0.0, level - 1)
        if not rule.is_shadow:
            quota.limit = floor(rule.limit.capacity)
            quota.remaining = floor(level)
            quota.reset_seconds = ceil((1 - level) / rule.limit.per_second) if level < 1 else 0
        return quota

    def keep(self, buckets: Iterable[str]) -> None:
        """Forget the rules that are gone; `buckets` are those of the live configuration."""
        kept = set(buckets)
        self._shared = {bucket: full_at for bucket, full_at in self._shared.items() if bucket in kept}

    def _put(self, rule: RateRule, digest: int, level: float, now: float) -> None:
        full_at = rule.limit.full_after(level, now)
        if digest:
            self._table_of_distinct().put(digest, full_at)
        else:
            self._shared[rule.bucket] = full_at

    def _table_of_distinct(self) -> "_Table":
        if self._table is None:
            self._table = _Table(self._max_buckets)
        return self._table


def _tightness(found: tuple[RateRule, int, float]) -> tuple[bool, float]:
    """Shadows refuse nobody, so they are told to nobody."""
    rule, _, level = found
    return rule.is_shadow, level


class _Table:
    """Digest → time, in two flat arrays of memory that the system gives out only where it is touched."""

    __slots__ = ("_digests", "_sets", "_times")

    def __init__(self, slots: int) -> None:
        self._sets = slots // _WAYS
        self._digests = memoryview(mmap(-1, slots * 8)).cast("Q")
        self._times = memoryview(mmap(-1, slots * 8)).cast("d")

    def get(self, digest: int) -> float:
        """0 for one that is not known."""
        first = digest % self._sets * _WAYS
        digests = self._digests
        for slot in range(first, first + _WAYS):
            if digests[slot] == digest:
                return self._times[slot]
        return 0.0

    def put(self, digest: int, time: float) -> None:
        """In its own slot, or in that of its set which is full first."""
        first = digest % self._sets * _WAYS
        digests, times = self._digests, self._times
        victim, earliest = first, times[first]
        for slot in range(first, first + _WAYS):
            if digests[slot] == digest:
                victim = slot
                break
            if times[slot] < earliest:
                victim, earliest = slot, times[slot]
        digests[victim] = digest
        times[victim] = time
