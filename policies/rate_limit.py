"""Local rate limits: token buckets, one per rule or one per distinct value.

A bucket is stored as one number, the time at which it is full again. A full bucket and an unknown one are equivalent,
so idle clients need no memory. Tokens are added one by one, evenly over the unit; at most `capacity` requests may come
at once. A request refused by one rule takes no tokens from the others.

Levels outlive configurations: a bucket is found by the name of its rule, and keeps its relative fill level when the
limit changes.

Memory for distinct values is bounded: 2,097,152 buckets of 16 bytes, in sets of eight, as in a processor's cache. If a
set has no full bucket left, the bucket that is closest to full is replaced. Errors thus let requests through, and no
client pays for another. Digests of values are keyed with Python's hash seed, so nobody can target another value's set.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from mmap import mmap

from policies.attributes import ClusterName, Header, Headers, Peer, RequestHead
from policies.selector import Condition, Key, key_of

MAX_BUCKETS = 1 << 21
WAYS = 8
_DIGEST_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket with `capacity` tokens, refilled at `per_second`. The policy configures `requests` per `unit`."""

    requests: int
    capacity: float
    per_second: float
    unit: str = "second"

    def level(self, full_at: float, now: float) -> float:
        """Number of tokens in a bucket that is full at `full_at`."""
        return self.capacity if full_at <= now else max(0.0, self.capacity - (full_at - now) * self.per_second)

    @property
    def token_seconds(self) -> float:
        """Time in which a token comes back."""
        return 1 / self.per_second


@dataclass(frozen=True, slots=True)
class RateRule:
    """One rule of a rate limit. `bucket` is the unique name of its buckets.

    A shadow rule counts and never refuses. `labels` name, per condition, the value it distinguishes, or are empty;
    `labels` is empty if no condition distinguishes values.
    """

    name: str
    bucket: str
    limit: Limit
    conditions: tuple[Condition, ...] = ()
    labels: tuple[str, ...] = ()
    is_shadow: bool = False


Measured = tuple[tuple[RateRule, Key], ...]
"""The rules that apply to a request, each with the key of the bucket."""


@dataclass(frozen=True, slots=True)
class LimitService:
    """The service that counts for all replicas.

    `address` is `host:port`, as logs, metrics and the service itself name it. `cluster` is where requests to it go; it
    is None if there is no such service.
    """

    address: str
    cluster: ClusterName | None
    domain: str
    timeout_seconds: float
    is_fail_open: bool


@dataclass(frozen=True, slots=True)
class RateLimits:
    """All rate limit rules of one policy. Every rule whose conditions hold counts.

    `policy` names the policy object. If `service` is set, local buckets are not used.
    """

    policy: str
    rules: tuple[RateRule, ...]
    has_headers: bool = False
    is_resource_exhausted: bool = False
    """Whether refused gRPC calls get RESOURCE_EXHAUSTED instead of UNAVAILABLE."""
    service: LimitService | None = None

    def measure(self, head: RequestHead, peer: Peer) -> Measured:
        """Return the rules that apply to the request, with their keys."""
        keys = ((rule, key_of(rule.conditions, head, peer)) for rule in self.rules)
        return tuple((rule, key) for rule, key in keys if key is not None)


@dataclass(slots=True)
class Quota:
    """The result of rate limiting one request, for the tightest bucket that applied.

    `over` are the rules that refused the request, `shadowed` the shadow rules that would have. `headers` are always
    added to the response.
    """

    limits: RateLimits
    limit: int = 0
    remaining: int = 0
    reset_seconds: int = 0
    over: tuple[RateRule, ...] = ()
    shadowed: tuple[RateRule, ...] = ()
    headers: Sequence[Header] = ()

    def mark(self, headers: Headers) -> None:
        """Add rate limit headers if configured (draft-ietf-httpapi-ratelimit-headers-03, in Envoy's form)."""
        headers += self.headers
        if self.limits.has_headers and self.limit:
            headers.append((b"x-ratelimit-limit", b"%d" % self.limit))
            headers.append((b"x-ratelimit-remaining", b"%d" % self.remaining))
            headers.append((b"x-ratelimit-reset", b"%d" % self.reset_seconds))


Found = tuple[RateRule, int, float, float]
"""A rule that applies to a request, the digest of its bucket, and the time at which that is full, and its level."""


class Buckets:
    """All buckets of a process. Times come from a monotonic clock. `policies.shared_buckets` has those of several."""

    __slots__ = ("_max_buckets", "_shared", "_table")

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._shared: dict[str, float] = {}
        self._max_buckets = max_buckets
        self._table: _Table | None = None

    def take(self, limits: RateLimits, head: RequestHead, peer: Peer, now: float) -> Quota | None:
        """Take a token from every bucket that applies to the request, or from none if one is empty.

        Returns None if no rule applies.
        """
        found: list[Found] = []
        rule: RateRule
        for rule in limits.rules:
            key = key_of(rule.conditions, head, peer)
            if key is None:
                continue
            digest = hash((rule.bucket, key)) & _DIGEST_MASK or 1 if rule.labels else 0
            full_at = self._full_at(rule, digest)
            found.append((rule, digest, full_at, rule.limit.level(full_at, now)))
        if not found:
            return None
        quota = Quota(limits)
        for rule, _, _, level in found:
            if level < 1:
                if rule.is_shadow:
                    quota.shadowed += (rule,)
                else:
                    quota.over += (rule,)
        rule, _, _, level = found[0] if len(found) == 1 else min(found, key=_tightness)
        if not quota.over:
            for each, digest, full_at, its in found:
                if its >= 1:
                    self._take(each, digest, full_at, now)
            level = max(0.0, level - 1)
        if not rule.is_shadow:
            quota.limit = int(rule.limit.capacity)
            quota.remaining = int(level)
            quota.reset_seconds = ceil((1 - level) / rule.limit.per_second) if level < 1 else 0
        return quota

    def keep(self, buckets: Iterable[str]) -> None:
        """Drop buckets of removed rules. `buckets` names those of the live configuration."""
        kept = set(buckets)
        self._shared = {bucket: full_at for bucket, full_at in self._shared.items() if bucket in kept}

    def _full_at(self, rule: RateRule, digest: int) -> float:
        """Time at which the bucket is full. `digest` is that of a distinct value, or 0."""
        return self._table_of_distinct().get(digest) if digest else self._shared.get(rule.bucket, 0.0)

    def _take(self, rule: RateRule, digest: int, full_at: float, now: float) -> None:
        full_at = max(full_at, now) + rule.limit.token_seconds
        if digest:
            self._table_of_distinct().put(digest, full_at)
        else:
            self._shared[rule.bucket] = full_at

    def _table_of_distinct(self) -> "_Table":
        if self._table is None:
            self._table = _Table(self._max_buckets)
        return self._table


def _tightness(found: Found) -> tuple[bool, float]:
    """Shadow rules sort last, because they are not reported to clients."""
    rule, _, _, level = found
    return rule.is_shadow, level


class _Table:
    """Map of digest to time, in two flat arrays. The operating system allocates their memory on first use."""

    __slots__ = ("_digests", "_sets", "_times")

    def __init__(self, slots: int) -> None:
        self._sets = slots // WAYS
        self._digests = memoryview(mmap(-1, slots * 8)).cast("Q")
        self._times = memoryview(mmap(-1, slots * 8)).cast("d")

    def get(self, digest: int) -> float:
        """Return the time, or 0 for an unknown digest."""
        first = digest % self._sets * WAYS
        digests = self._digests
        for slot in range(first, first + WAYS):
            if digests[slot] == digest:
                return self._times[slot]
        return 0.0

    def put(self, digest: int, time: float) -> None:
        """Store the time in the digest's slot, or in the slot of its set that is full first."""
        first = digest % self._sets * WAYS
        digests, times = self._digests, self._times
        victim, earliest = first, times[first]
        for slot in range(first, first + WAYS):
            if digests[slot] == digest:
                victim = slot
                break
            if times[slot] < earliest:
                victim, earliest = slot, times[slot]
        digests[victim] = digest
        times[victim] = time
