"""Load balancer of one destination over its available endpoints. Rebuilt when these change."""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Protocol

from xxhash import xxh64_intdigest

from policies.balancing.endpoint import Endpoint
from policies.balancing.least_request import LeastRequest
from policies.balancing.maglev import Maglev, maglev_of
from policies.balancing.method import Balancing, Method
from policies.balancing.ring_hash import Ring, ring_of
from policies.balancing.round_robin import RoundRobin
from policies.balancing.weighted import Shares
from waypoint.config.snapshot import ClusterConfig
from waypoint.upstream.endpoint import LiveEndpoint

Roll = Callable[[], float]


class Balancer(Protocol):
    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        """Pick an endpoint. One in `avoid` is picked only if there is no other."""


def balancer(balancing: Balancing, candidates: Sequence[LiveEndpoint], roll: Roll) -> Balancer:
    match balancing.method:
        case Method.LEAST_REQUEST:
            return _Least(candidates)
        case Method.ROUND_ROBIN:
            return _InTurn(candidates, roll())
        case Method.RANDOM:
            return _Random(candidates)
        case Method.RING_HASH:
            return _Hashed(candidates, ring_of(_members(it.endpoint for it in candidates), balancing.table_size))
        case Method.MAGLEV:
            return _Hashed(candidates, maglev_of(_members(it.endpoint for it in candidates), balancing.table_size))


def prepare(config: ClusterConfig) -> None:
    """Build a cluster's hash tables in advance, in the compiling thread, since each takes up to 30 ms."""
    make = {Method.RING_HASH: ring_of, Method.MAGLEV: maglev_of}.get(config.balancing.method)
    if make is not None:
        for rank in {endpoint.rank for endpoint in config.endpoints}:
            make(_members(it for it in config.endpoints if it.rank == rank), config.balancing.table_size)


def _members(endpoints: Iterable[Endpoint]) -> tuple[tuple[str, int], ...]:
    """Use the endpoint names of Istio's waypoint, so that keys map to the same endpoints as there."""
    return tuple((endpoint.name, endpoint.weight) for endpoint in endpoints)


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

    def __init__(self, candidates: Sequence[LiveEndpoint], table: Ring | Maglev) -> None:
        self._candidates = candidates
        self._table = table

    def pick(self, roll: Roll, avoid: Container[Endpoint], key: bytes | None) -> LiveEndpoint:
        if key is not None:
            live = self._candidates[self._table.find(xxh64_intdigest(key))]
            if live.endpoint not in avoid:
                return live
        candidates = _others(self._candidates, avoid) if avoid else self._candidates
        return candidates[int(roll() * len(candidates))]
