"""Load balancer of one destination over its available endpoints. Rebuilt when these change."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Protocol

from xxhash import xxh64_intdigest

from policies.balancing.endpoint import Endpoint
from policies.balancing.least_request import LeastRequest
from policies.balancing.method import Balancing, Method
from policies.balancing.round_robin import RoundRobin
from policies.balancing.weighted import Shares
from waypoint.config.snapshot import ClusterConfig
from waypoint.upstream.endpoint import LiveEndpoint
from waypoint.upstream.hash_tables import TABLES, Shape, Table, build_all, shape_of

Roll = Callable[[], float]


class Balancer(Protocol):
    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        """Pick an endpoint. One in `avoid` is picked only if there is no other."""


def balancer(
    balancing: Balancing,
    candidates: Sequence[LiveEndpoint],
    roll: Roll,
    built: Mapping[Shape, Table],
    former: Balancer | None,
) -> Balancer:
    """`built` are tables to use, besides those that were built before. `former` is what the new balancer replaces."""
    match balancing.method:
        case Method.LEAST_REQUEST:
            return _Least(candidates)
        case Method.ROUND_ROBIN:
            return _InTurn(candidates, roll())
        case Method.RANDOM:
            return _Random(candidates)
        case Method.RING_HASH | Method.MAGLEV:
            shape = shape_of(balancing, (it.endpoint for it in candidates))
            table = built.get(shape) or TABLES.get(shape)
            if table is not None:
                return _Hashed(candidates, table)
            return _Provisional(candidates, shape, former)


def lacking(balancers: Iterable[Balancer]) -> list[Shape]:
    """Return the shapes of the tables for which balancers wait."""
    return [it.shape for it in balancers if isinstance(it, _Provisional)]


def prepare(config: ClusterConfig) -> None:
    """Build a cluster's hash tables in advance, in the compiling thread."""
    if config.balancing.method in {Method.RING_HASH, Method.MAGLEV}:
        ranks = {endpoint.rank for endpoint in config.endpoints}
        build_all(shape_of(config.balancing, (it for it in config.endpoints if it.rank == rank)) for rank in ranks)


def _others(candidates: Sequence[LiveEndpoint], avoid: Container[Endpoint]) -> Sequence[LiveEndpoint]:
    """Exclude endpoints in `avoid`. Envoy instead retries up to five times and may pick one that it should avoid."""
    return [live for live in candidates if live.endpoint not in avoid] or candidates


class Ranked:
    """One balancer per rank, with its share of all requests, in order of rank. Equal keys select the same rank."""

    __slots__ = ("_balancers", "_shares")

    def __init__(self, ranks: Iterable[tuple[float, Balancer]]) -> None:
        shares, balancers = zip(*ranks, strict=True)
        self._balancers: tuple[Balancer, ...] = balancers
        self._shares = Shares(shares)

    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        balancers = self._balancers
        point = roll() if key is None else xxh64_intdigest(key) % 100 / 100  # a percent, as Envoy has it
        live = balancers[self._shares.find(point)].pick(roll, avoid, key)
        if avoid and live.endpoint in avoid:
            others = (other.pick(roll, avoid, key) for other in balancers)
            return next((other for other in others if other.endpoint not in avoid), live)
        return live


class _Least:
    __slots__ = ("_candidates", "_pick")

    def __init__(self, candidates: Sequence[LiveEndpoint]) -> None:
        self._candidates = candidates
        self._pick = LeastRequest(candidates).pick

    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        if len(self._candidates) == 1:
            return self._candidates[0]
        if avoid:
            return LeastRequest(_others(self._candidates, avoid)).pick(roll(), roll())
        return self._pick(roll(), roll())


class _Random:
    __slots__ = ("_candidates", "_shares")

    def __init__(self, candidates: Sequence[LiveEndpoint]) -> None:
        self._candidates = candidates
        self._shares = Shares([live.weight for live in candidates])

    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        if avoid:
            return _Random(_others(self._candidates, avoid)).pick(roll, (), None)
        return self._candidates[self._shares.find(roll())]


class _InTurn:
    __slots__ = ("_candidates", "_turns")

    def __init__(self, candidates: Sequence[LiveEndpoint], start: float) -> None:
        self._candidates = candidates
        self._turns = RoundRobin(candidates, start)

    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        for _ in self._candidates:
            live = self._turns.pick()
            if live.endpoint not in avoid:
                break
        return live


class _Hashed:
    """Pick by key. Requests without a key, or with an endpoint to avoid, are balanced randomly."""

    __slots__ = ("_candidates", "_table")

    def __init__(self, candidates: Sequence[LiveEndpoint], table: Table) -> None:
        self._candidates = candidates
        self._table = table

    def find(self, number: int) -> LiveEndpoint:
        return self._candidates[self._table.find(number)]

    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        return _keyed(self.find(xxh64_intdigest(key)) if key is not None else None, self._candidates, roll, avoid)


class _Provisional:
    """Pick by key while a thread builds the table of `shape`.

    A key stays with the endpoint of the former table. If that is no longer a candidate, its keys are spread evenly over
    all candidates.
    """

    __slots__ = ("_available", "_candidates", "former", "shape")

    def __init__(self, candidates: Sequence[LiveEndpoint], shape: Shape, former: Balancer | None) -> None:
        self.shape = shape
        self._candidates = candidates
        self._available = set(candidates)
        last: Balancer | None = former
        if isinstance(former, _Provisional):
            last = former.former
        self.former: _Hashed | None = last if isinstance(last, _Hashed) else None

    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        if key is None:
            return _keyed(None, self._candidates, roll, avoid)
        number = xxh64_intdigest(key)
        live = self.former.find(number) if self.former is not None else None
        if live is None or live not in self._available:
            live = self._candidates[number % len(self._candidates)]
        return _keyed(live, self._candidates, roll, avoid)


def _keyed(
    found: LiveEndpoint | None, candidates: Sequence[LiveEndpoint], roll: Roll, avoid: Container[Endpoint]
) -> LiveEndpoint:
    if found is not None and found.endpoint not in avoid:
        return found
    if avoid:
        candidates = _others(candidates, avoid)
    return candidates[int(roll() * len(candidates))]
