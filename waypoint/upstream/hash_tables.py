"""Hash tables of destinations with consistent hashing. Threads build them; the event loop only looks them up.

Maglev's default table takes up to 30 ms to build, and the largest one seconds, in which no request would proceed. A
change of the configuration builds its tables where it is compiled. If an endpoint is ejected or DNS answers otherwise,
`Clusters` builds the new table in a thread, and the cluster uses the former one meanwhile.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from policies.balancing.endpoint import Endpoint
from policies.balancing.maglev import Maglev
from policies.balancing.method import Balancing, Method
from policies.balancing.ring_hash import Ring

Table = Ring | Maglev

_MOST = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """All that a table depends on. `members` are names and weights."""

    method: Method
    size: int
    members: tuple[tuple[str, int], ...]


def shape_of(balancing: Balancing, endpoints: Iterable[Endpoint]) -> Shape:
    """Use the endpoint names of Istio's waypoint, so that keys map to the same endpoints as there."""
    members = tuple((endpoint.name, endpoint.weight) for endpoint in endpoints)
    return Shape(balancing.method, balancing.table_size, members)


class Tables:
    """The tables used last, at most 256. The same members recur whenever an endpoint is ejected and returns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: dict[Shape, Table] = {}

    def get(self, shape: Shape) -> Table | None:
        with self._lock:
            table = self._built.pop(shape, None)
            if table is not None:
                self._built[shape] = table
            return table

    def build(self, shape: Shape) -> Table:
        """Return a table, which is built if it isn't there. Not for the event loop."""
        table = self.get(shape)
        if table is None:
            kind = Maglev if shape.method is Method.MAGLEV else Ring
            table = kind(shape.members, shape.size)
            with self._lock:
                self._built[shape] = table
                if len(self._built) > _MOST:
                    del self._built[next(iter(self._built))]
        return table


TABLES = Tables()
"""Shared by the thread that compiles and the event loop."""


def build_all(shapes: Iterable[Shape]) -> dict[Shape, Table]:
    return {shape: TABLES.build(shape) for shape in shapes}
