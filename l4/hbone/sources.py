"""Limit handshakes per source address while handshake capacity is scarce.

A handshake costs more than a millisecond, so one client that starts seven hundred a second fills a processor. While few
handshakes are active, addresses are not counted.
"""

from l4.http2.flood import Bucket

MAX_SOURCES = 4096


class Sources:
    """Allows each address a burst of `burst` handshakes and `per_second` after that.

    Only the most recent addresses are remembered; a forgotten address starts anew.
    """

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
