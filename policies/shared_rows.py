"""Rows of numbers in memory that the workers of a replica share, and that they find by name.

    row      | digest of the name | one cell per worker: does it use the row? |
    payload  | `width` cells |

All workers find a name in the same row. A row is joined under the lock. Whether its payload needs the lock, its users
decide; a number of eight bytes is read and written as a whole. A row that nobody uses is free for another name. A name
can have one of 32 rows, so that looking for it takes bounded time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

Lock = Callable[[], AbstractContextManager[bool]]
"""Holds the lock for a `with` block. The value is False if it could not be had in time."""
CELL_BYTES = 8
_NEAR = 32
_DIGEST_MASK = (1 << 63) - 1


def digest_of(name: object) -> int:
    """Return a digest, never 0. Equal in all workers, because they are started with the same hash seed."""
    return hash(name) & _DIGEST_MASK or 1


class Rows:
    """The rows as worker number `own`, from 0, of `workers` sees them. Each row has `width` cells of payload.

    `refused` are names for which there is no row, and `missed` those that did not get the lock in time. They are not
    shared until they join again.
    """

    def __init__(self, memory: memoryview, own: int, workers: int, width: int, lock: Lock) -> None:
        self.own = own
        self.workers = workers
        self.refused: set[object] = set()
        self.missed: set[object] = set()
        self.lock = lock
        self.counts = memory.cast("q")
        """All cells as whole numbers."""
        self.times = memory.cast("d")
        """All cells as fractions."""
        self._width = width
        self._zeros = memoryview(bytes(width * CELL_BYTES)).cast("q")
        self._rows = len(self.counts) // (1 + workers + width)
        self._payloads = self._rows * (1 + workers)

    @staticmethod
    def size(rows: int, workers: int, width: int) -> int:
        """Return the number of bytes that the memory needs."""
        return rows * (1 + workers + width) * CELL_BYTES

    def join(self, name: object) -> int | None:
        """Return the first cell of the name's payload, or None if there is no room. `leave` ends the use.

        The payload of a row that nobody else uses is zero.
        """
        digest, counts = digest_of(name), self.counts
        self.give_up(name)
        with self.lock() as is_held:
            if not is_held:
                self.missed.add(name)
                return None
            chosen = self._find(digest)
            if chosen is None:
                self.refused.add(name)
                return None
            payload = self._payload(chosen)
            if not self._is_used(chosen):
                counts[chosen] = digest
                counts[payload : payload + self._width] = self._zeros
            counts[chosen + 1 + self.own] = 1
        return payload

    def give_up(self, name: object) -> None:
        """A name that has no row does not want one any more."""
        self.refused.discard(name)
        self.missed.discard(name)

    @property
    def alone(self) -> int:
        """Number of names that are not shared."""
        return len(self.refused) + len(self.missed)

    def leave(self, payload: int) -> None:
        """End the use of a row."""
        row = (payload - self._payloads) // self._width * (1 + self.workers)
        self.counts[row + 1 + self.own] = 0

    def forget(self, worker: int, cells: range) -> None:
        """Worker number `worker`, from 0, has ended: it uses no row, and these `cells` of each payload are zero."""
        counts = self.counts
        for row in range(0, self._payloads, 1 + self.workers):
            if counts[row + 1 + worker]:
                for cell in cells:
                    counts[self._payload(row) + cell] = 0
                counts[row + 1 + worker] = 0

    def _find(self, digest: int) -> int | None:
        """Return the name's row, or else a free one."""
        stride, near = 1 + self.workers, min(_NEAR, self._rows)
        first = digest % (self._rows - near + 1) * stride
        cells, free = self.counts[first : first + near * stride].tolist(), None
        for row in range(0, len(cells), stride):
            is_used = any(cells[row + 1 : row + stride])
            if is_used and cells[row] == digest:
                return first + row
            if not is_used and free is None:
                free = first + row
        return free

    def _payload(self, row: int) -> int:
        return self._payloads + row // (1 + self.workers) * self._width

    def _is_used(self, row: int) -> bool:
        return any(self.counts[row + 1 : row + 1 + self.workers])
