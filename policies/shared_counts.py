"""Counts that the workers of a replica share: each worker writes its own, and reads those of the others.

There is no lock: requests that are decided in the same moment do not see each other, so up to one per other worker may
pass beyond a limit. The supervisor sets the counts of a worker that has ended to zero.
"""

from policies.shared_rows import Rows


class SharedCounts:
    """`count` counts per worker, in a row whose payload has room for them."""

    __slots__ = ("_cells", "_others", "_own")

    def __init__(self, rows: Rows, payload: int, count: int) -> None:
        self._cells = rows.counts
        self._own = payload + rows.own * count
        self._others = [payload + worker * count for worker in range(rows.workers) if worker != rows.own]

    def put(self, which: int, value: int) -> None:
        """Set our own count."""
        self._cells[self._own + which] = value

    def others(self, which: int) -> int:
        """Return the sum of the other workers' counts."""
        total = 0
        for start in self._others:
            total += self._cells[start + which]
        return total

    def each_of_others(self, first: int, count: int) -> list[int]:
        """Return `count` counts of each other worker, beginning with `first`."""
        return [it for start in self._others for it in self._cells[start + first : start + first + count].tolist()]
