"""Token buckets that the workers of a replica take from together, without a lock.

Each worker writes two numbers per bucket, and reads those of all:

    origin   a time at which the bucket was full, minus all that had been spent by then
    spent    the time that the worker's tokens take to come back

The bucket is full at the latest of all origins plus all that is spent. A worker that finds it full moves its origin
up. So no token is lost or counted twice, in whatever order workers read and write: an origin only grows, and so does
what is spent. Only requests that are decided in the same moment do not see each other: with N workers, up to N - 1
requests more than the limit may pass, once per filling of the bucket. A worker that ends leaves its numbers behind, and
its successor goes on from there.

Buckets of a rule have a row each (`policies.shared_rows`). Those of distinct values are in sets of eight, as in
`policies.rate_limit`: each worker has a table of its own, which only it changes, and reads the others' too. A bucket
without a row is divided: each of N workers has an Nth of the limit, but at least one token.
"""

from collections.abc import Iterable

from policies.rate_limit import WAYS, Buckets, RateRule
from policies.shared_rows import CELL_BYTES, Rows

ROW_CELLS = 2
"""Cells of payload per worker in the row of a bucket."""
_ENTRY_CELLS = 4


class SharedBuckets(Buckets):
    """`tables` is the memory for distinct values, as large as `Table.size` says."""

    __slots__ = ("_distinct", "_payloads", "_rows")

    def __init__(self, rows: Rows, tables: memoryview) -> None:
        super().__init__()
        self._rows = rows
        self._distinct = Table(tables, rows.own, rows.workers)
        self._payloads: dict[str, int | None] = {}

    def keep(self, buckets: Iterable[str]) -> None:
        """Drop buckets of removed rules, and get a row for each other one."""
        kept = set(buckets)
        for gone in self._payloads.keys() - kept:
            payload = self._payloads.pop(gone)
            if payload is not None:
                self._rows.leave(payload)
            self._rows.give_up(gone)
        for bucket in kept:
            if self._payloads.get(bucket) is None:
                self._payloads[bucket] = self._rows.join(bucket)
        super().keep(kept)

    def _full_at(self, rule: RateRule, digest: int) -> float:
        if digest:
            origin, spent = self._distinct.read(digest)
            return origin + spent
        payload = self._payloads.get(rule.bucket)
        if payload is None and rule.bucket in self._rows.missed:
            payload = self._payloads[rule.bucket] = self._rows.join(rule.bucket)
        if payload is None:
            return super()._full_at(rule, digest)
        origin, spent = self._read(payload)
        return origin + spent

    def _take(self, rule: RateRule, digest: int, full_at: float, now: float) -> None:
        seconds = rule.limit.token_seconds
        if digest:
            self._distinct.take(digest, seconds, now)
            return
        payload = self._payloads.get(rule.bucket)
        if payload is None:
            self._shared[rule.bucket] = max(full_at, now) + seconds * self._rows.workers
            return
        origin, spent = self._read(payload)
        own, times = payload + self._rows.own * ROW_CELLS, self._rows.times
        if origin + spent <= now:
            times[own] = now - spent
        times[own + 1] += seconds

    def _read(self, payload: int) -> tuple[float, float]:
        """Return the latest origin, and what all have spent."""
        cells = self._rows.times[payload : payload + self._rows.workers * ROW_CELLS].tolist()
        return max(cells[::ROW_CELLS]), sum(cells[1::ROW_CELLS])


class Table:
    """Buckets of distinct values. An entry has a digest, an origin, what is spent, and the time at which its worker
    last expected the bucket to be full."""

    def __init__(self, memory: memoryview, own: int, workers: int) -> None:
        self._own = own
        self._sets = len(memory) // workers // (_ENTRY_CELLS * CELL_BYTES) // WAYS
        cells = self._sets * WAYS * CELL_BYTES
        parts = [memory[start : start + cells] for start in range(0, workers * _ENTRY_CELLS * cells, cells)]
        self._digests = [it.cast("Q") for it in parts[0::_ENTRY_CELLS]]
        self._origins = [it.cast("d") for it in parts[1::_ENTRY_CELLS]]
        self._spent = [it.cast("d") for it in parts[2::_ENTRY_CELLS]]
        self._full = parts[own * _ENTRY_CELLS + 3].cast("d")

    @staticmethod
    def size(buckets: int) -> int:
        """Return the number of bytes for this many buckets of all workers together."""
        return buckets * _ENTRY_CELLS * CELL_BYTES

    def read(self, digest: int) -> tuple[float, float]:
        """Return the latest origin, and what all have spent."""
        first = digest % self._sets * WAYS
        latest = total = 0.0
        for digests, origins, spent in zip(self._digests, self._origins, self._spent, strict=True):
            ways = digests[first : first + WAYS].tolist()
            if digest in ways:
                entry = first + ways.index(digest)
                origin, its = origins[entry], spent[entry]
                if digests[entry] == digest:  # else its worker has just given the entry to another bucket
                    latest = max(latest, origin)
                    total += its
        return latest, total

    def take(self, digest: int, seconds: float, now: float) -> None:
        """Spend the time that a token takes to come back."""
        entry = self._entry(digest)
        origin, spent = self.read(digest)
        if origin + spent <= now:
            self._origins[self._own][entry] = origin = now - spent
        self._spent[self._own][entry] += seconds
        self._full[entry] = origin + spent + seconds

    def _entry(self, digest: int) -> int:
        """Return our entry of the bucket. It may replace the one that is full first."""
        digests, first = self._digests[self._own], digest % self._sets * WAYS
        ways = digests[first : first + WAYS].tolist()
        if digest in ways:
            return int(first + ways.index(digest))
        full = self._full[first : first + WAYS].tolist()
        entry = int(first + full.index(min(full)))
        digests[entry] = 0
        self._origins[self._own][entry] = self._spent[self._own][entry] = 0.0
        digests[entry] = digest
        return entry
