"""How many handshakes one address may begin while they are scarce.

A handshake costs more than a millisecond: one place that begins seven hundred a second fills a processor, and others
wait behind it. While few are under way, nobody is counted.
"""

from l4.http2.flood import Bucket

MAX_SOURCES = 4096


class Sources:
    """`burst` handshakes at once for each address, `per_second` new ones afterwards. Knows the last addresses only: who
    has been forgotten begins anew."""

    __slots__ = ("_buckets", "_burst", "_per_second")

    def __init__(self, burst: int, per_second: int) -> None:
        self._burst = burst
        self._per_second = per_second
        self._buckets: dict[str, Bucket] = {}

    def take(self, ip: str, now: float) -> bool:
        bucket = self._buckets.pop(ip, None) or Bucket(self._burst, self._per_second)
        self._buckets[ip] = bucket
        if len(self._buckets) > MAX_SOURCES:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)
