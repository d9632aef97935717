"""Balancers over live endpoints: shares by chance (with fixed seeds), keys that stay, endpoints to avoid."""

from collections import Counter
from random import Random

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName
from policies.balancing.endpoint import Endpoint
from policies.balancing.locality import NEAREST, Rank
from policies.balancing.method import Balancing, Method
from policies.balancing.warm_up import WarmUp
from policies.outcome import Ending, Outcome
from policies.outlier import OutlierDetection
from waypoint.config.snapshot import UNKNOWN_SERVICE, ClusterConfig
from waypoint.upstream.balancer import prepare
from waypoint.upstream.cluster import Cluster
from waypoint.upstream.hash_tables import build_all

PICKS = 30_000
HASHED = (Method.RING_HASH, Method.MAGLEV)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def cluster(
    *endpoints: Endpoint, balancing: Balancing, outlier: OutlierDetection | None = None, clock: Clock | None = None
) -> Cluster:
    config = ClusterConfig(
        ClusterName("c"),
        UNKNOWN_SERVICE,
        80,
        AppProtocol.HTTP,
        endpoints,
        balancing=balancing,
        outlier=outlier,
    )
    return Cluster(config, clock=clock or Clock())


def endpoint(number: int, weight: int = 1, rank: Rank = NEAREST) -> Endpoint:
    return Endpoint(f"10.0.0.{number}", 80, None, weight=weight, rank=rank)


def balancing(method: Method) -> Balancing:
    return Balancing(method, table_size=4099)


def chi_square(counts: Counter[str], expected: dict[str, float]) -> float:
    whole = sum(counts.values())
    return sum((counts[name] - whole * share) ** 2 / (whole * share) for name, share in expected.items())


def picks(it: Cluster, seed: int = 1, count: int = PICKS) -> Counter[str]:
    roll = Random(seed).random
    return Counter(live.endpoint.ip for _ in range(count) if (live := it.pick(roll)))


@pytest.mark.parametrize("method", [it for it in Method if it not in HASHED])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 2, 3, 4)])
def test_shares_are_those_of_the_weights(method: Method, weights: tuple[int, ...]) -> None:
    it = cluster(*(endpoint(n, weight) for n, weight in enumerate(weights)), balancing=balancing(method))

    found = picks(it)

    expected = {f"10.0.0.{n}": weight / sum(weights) for n, weight in enumerate(weights)}
    assert chi_square(found, expected) < 16.3  # 3 degrees of freedom: one in a thousand is above


@pytest.mark.parametrize("method", HASHED)
def test_a_key_stays_with_its_endpoint_and_moves_only_when_that_is_ejected(method: Method) -> None:
    policy = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    it = cluster(*map(endpoint, range(5)), balancing=balancing(method), outlier=policy)
    roll = Random(1).random
    keys = [b"%d" % number for number in range(500)]
    before = {key: it.pick(roll, (), key) for key in keys}
    assert before == {key: it.pick(roll, (), key) for key in keys}

    broken = it.endpoints[2]
    it.record(broken, Outcome(Ending.RESPONSE, 500))
    after = {key: it.pick(roll, (), key) for key in keys}

    moved = [key for key in keys if before[key] is not after[key]]
    assert {key for key in keys if before[key] is broken} <= set(moved)
    assert broken not in after.values()
    assert len(moved) < 0.3 * len(keys)


@pytest.mark.parametrize("method", list(Method))
def test_one_to_avoid_is_picked_only_when_there_is_no_other(method: Method) -> None:
    one, two = endpoint(1), endpoint(2)
    it = cluster(one, two, balancing=balancing(method))
    roll = Random(1).random

    found = {live.endpoint for n in range(200) if (live := it.pick(roll, {one}, b"%d" % n))}

    assert found == {two}
    assert it.pick(roll, {one, two}, b"key") is not None


@pytest.mark.parametrize("method", list(Method))
def test_a_retry_whose_rank_has_nobody_untried_goes_to_the_next_rank(method: Method) -> None:
    near, far = endpoint(1), endpoint(2, rank=Rank(1))
    it = cluster(near, far, balancing=balancing(method))
    roll = Random(1).random

    first, second = it.pick(roll, (), b"key"), it.pick(roll, {near}, b"key")

    assert first is not None
    assert second is not None
    assert (first.endpoint, second.endpoint) == (near, far)


@pytest.mark.parametrize("method", HASHED)
def test_a_key_stays_where_it_is_while_ranks_share(method: Method) -> None:
    ranks = [Rank(place=place, share=50) for place in (0, 1)]
    it = cluster(*(endpoint(n, rank=ranks[n % 2]) for n in range(6)), balancing=balancing(method))
    keys = [b"%d" % number for number in range(200)]
    roll = Random(1).random

    met = [{it.pick(roll, (), key) for _ in range(4)} for key in keys]

    assert all(len(each) == 1 for each in met)
    places = Counter(live.endpoint.rank.place for each in met for live in each if live)
    assert min(places.values()) > 60


def test_an_endpoint_that_has_just_come_gets_a_growing_share() -> None:
    clock = Clock()
    it = cluster(endpoint(1), balancing=Balancing(Method.RANDOM, warm_up=WarmUp(10.0)), clock=clock)
    clock.now = 100.0
    config = ClusterConfig(
        it.config.name,
        UNKNOWN_SERVICE,
        80,
        AppProtocol.HTTP,
        (endpoint(1), endpoint(2)),
        balancing=it.config.balancing,
    )
    it.reconcile(config)

    shares = []
    for seconds in (1.0, 5.0, 10.0):
        clock.now = 100.0 + seconds
        it.tick()
        shares.append(picks(it)["10.0.0.2"] / PICKS)

    assert shares == pytest.approx([0.1 / 1.1, 0.5 / 1.5, 0.5], abs=0.01)


@pytest.mark.parametrize("method", HASHED)
def test_tables_that_were_prepared_are_not_made_again(method: Method) -> None:
    endpoints = tuple(map(endpoint, (7, 8, 9)))
    hashing = Balancing(method, table_size=1031)
    config = ClusterConfig(ClusterName("c"), UNKNOWN_SERVICE, 80, AppProtocol.HTTP, endpoints, balancing=hashing)
    prepare(config)
    lacking: list[Cluster] = []

    it = Cluster(config, lacks=lacking.append)

    assert it.pick(Random(1).random, (), b"key") is not None
    assert not lacking


@pytest.mark.parametrize("method", HASHED)
def test_until_a_table_is_built_keys_stay_with_their_endpoints_and_an_ejected_one_gets_none(method: Method) -> None:
    policy = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    endpoints = tuple(map(endpoint, range(10)))
    hashing = Balancing(method, table_size=1039)
    config = ClusterConfig(
        ClusterName("c"), UNKNOWN_SERVICE, 80, AppProtocol.HTTP, endpoints, balancing=hashing, outlier=policy
    )
    prepare(config)
    lacking: list[Cluster] = []
    it = Cluster(config, clock=Clock(), lacks=lacking.append)
    roll, keys = Random(1).random, [b"%d" % number for number in range(500)]
    before = {key: it.pick(roll, (), key) for key in keys}

    first, second = it.endpoints[2], it.endpoints[4]
    it.record(first, Outcome(Ending.RESPONSE, 500))
    it.record(second, Outcome(Ending.RESPONSE, 500))
    meanwhile = {key: it.pick(roll, (), key) for key in keys}
    it.use(build_all(it.lacking()))
    after = {key: it.pick(roll, (), key) for key in keys}

    assert lacking == [it, it]
    assert not it.lacking()
    assert {first, second}.isdisjoint(meanwhile.values())
    assert all(meanwhile[key] is live for key, live in before.items() if live not in (first, second))
    anew = cluster(*(live.endpoint for live in it.available), balancing=hashing)
    assert [live and live.endpoint for live in after.values()] == [
        live and live.endpoint for live in (anew.pick(roll, (), key) for key in keys)
    ]


def test_a_destination_that_is_new_to_names_spreads_its_keys_until_there_is_a_table() -> None:
    config = ClusterConfig(
        ClusterName("c"), UNKNOWN_SERVICE, 80, AppProtocol.HTTP, (), balancing=Balancing(Method.MAGLEV, table_size=1049)
    )
    it = Cluster(config, clock=Clock(), lacks=lambda cluster: None)
    it.resolve(tuple(map(endpoint, range(5))))
    roll = Random(1).random

    found = [{it.pick(roll, (), b"%d" % number) for _ in range(3)} for number in range(500)]

    assert all(len(each) == 1 for each in found)
    counts = Counter(live.endpoint.ip for each in found for live in each if live)
    assert chi_square(counts, {f"10.0.0.{n}": 0.2 for n in range(5)}) < 18.5  # 4 degrees: one in a thousand is above


def test_a_rank_that_lacks_half_of_its_endpoints_gets_seventy_percent() -> None:
    policy = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    near, far = [endpoint(1), endpoint(2)], [endpoint(3, rank=Rank(1)), endpoint(4, rank=Rank(1))]
    it = cluster(*near, *far, balancing=Balancing(), outlier=policy)
    it.record(it.endpoints[0], Outcome(Ending.RESPONSE, 500))

    found = picks(it)

    expected = {"10.0.0.2": 0.7, "10.0.0.3": 0.15, "10.0.0.4": 0.15}
    assert found["10.0.0.1"] == 0
    assert chi_square(found, expected) < 13.8  # 2 degrees of freedom: one in a thousand is above


def test_all_may_be_ejected_where_that_is_asked_for() -> None:
    policy = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
    it = cluster(endpoint(1), endpoint(2), balancing=Balancing(), outlier=policy)

    for live in it.endpoints:
        it.record(live, Outcome(Ending.RESPONSE, 500))

    assert it.pick(Random(1).random, ()) is None


def test_places_get_their_shares() -> None:
    ranks = [Rank(place=0, share=80), Rank(place=1, share=20)]
    it = cluster(*(endpoint(n, rank=ranks[n % 2]) for n in range(4)), balancing=Balancing())

    expected = {"10.0.0.0": 0.4, "10.0.0.2": 0.4, "10.0.0.1": 0.1, "10.0.0.3": 0.1}
    assert chi_square(picks(it), expected) < 16.3  # 3 degrees of freedom
