"""The shares of near and far endpoints, and the distance of each endpoint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.balancing.locality import (
    Group,
    Locality,
    Rank,
    loads,
    matches,
    parse_locality,
    priority_by_labels,
    priority_by_locality,
    share_of,
)

OWN = ("us", "east", "a")


def by_priority(*available: int) -> list[float]:
    """The loads of priorities of which so many of 100 endpoints are in."""
    return loads([Group(Rank(priority), count, 100) for priority, count in enumerate(available)])


@pytest.mark.parametrize(
    ("available", "percents"),
    [
        ((100, 100), [100, 0]),
        ((72, 100), [100, 0]),
        ((71, 100), [99.4, 0.6]),
        ((50, 100), [70, 30]),
        ((25, 100), [35, 65]),
        ((0, 100), [0, 100]),
        ((50, 0), [100, 0]),
        ((25, 25), [50, 50]),
        ((0, 0), [0, 0]),
        ((50, 20, 100), [70, 28, 2]),
    ],
)
def test_a_priority_gives_up_what_it_lacks_as_in_envoys_table(
    available: tuple[int, ...], percents: list[float]
) -> None:
    assert by_priority(*available) == pytest.approx([percent / 100 for percent in percents])


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_loads_are_a_whole_and_nobody_who_is_out_gets_any(available: list[int]) -> None:
    found = by_priority(*available)

    assert sum(found) == pytest.approx(1.0 if any(available) else 0.0)
    assert all(load == 0 for load, count in zip(found, available, strict=True) if count == 0)


@given(st.integers(1, 100), st.integers(0, 99))
def test_a_first_priority_that_loses_an_endpoint_never_gets_more(one: int, other: int) -> None:
    fewer, more = sorted((one, other))

    assert by_priority(fewer, 100)[0] <= by_priority(more, 100)[0]


def test_places_keep_their_shares_until_they_lack_more_than_was_spare() -> None:
    def shares(available: int) -> list[float]:
        return loads([Group(Rank(0, 0, 80), available, 10), Group(Rank(0, 1, 20), 10, 10)])

    assert shares(10) == shares(8) == pytest.approx([0.8, 0.2])
    assert shares(5) == pytest.approx([0.56 / 0.76, 0.2 / 0.76])
    assert shares(0) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("other", "priority"), [("us/east/a", 0), ("us/east/b", 1), ("us/west/a", 2), ("eu/east/a", 3), ("", 3)]
)
def test_the_more_of_the_locality_is_shared_the_earlier(other: str, priority: int) -> None:
    assert priority_by_locality(OWN, parse_locality(other), {}) == priority


def test_a_region_to_fail_over_to_comes_before_all_others() -> None:
    failover = {"us": "eu", "asia": "us"}

    found = [priority_by_locality(OWN, (region, "", ""), failover) for region in ("us", "eu", "asia")]

    assert found == [2, 3, 4]


@pytest.mark.parametrize(
    ("labels", "priority"),
    [
        ({"zone": "z", "region": "r", "version": "v1"}, 0),
        ({"zone": "z", "region": "r", "version": "v2"}, 1),
        ({"zone": "y", "region": "r", "version": "v1"}, 2),
        ({"zone": "z", "region": "q", "version": "v1"}, 3),
        ({}, 3),
    ],
)
def test_the_first_label_that_differs_decides(labels: dict[str, str], priority: int) -> None:
    own = {"region": "r", "zone": "z", "version": "v9"}

    assert priority_by_labels(("region", "zone", "version=v1"), own, labels) == priority


@pytest.mark.parametrize(
    ("pattern", "is_matched"),
    [
        ("*", True),
        ("us", True),
        ("us/*", True),
        ("us/east/*", True),
        ("us/east/a", True),
        ("us/west/*", False),
        ("", False),
    ],
)
def test_a_pattern_means_what_it_says_and_any_of_what_it_leaves_out(pattern: str, is_matched: bool) -> None:
    assert matches(OWN, pattern) is is_matched


def test_the_narrowest_pattern_decides_and_a_place_without_one_gets_nothing() -> None:
    shares = {"us/*": 30, "us/east/a": 70}

    found = {text: share_of(parse_locality(text), shares) for text in ("us/east/a", "us/east/b", "us/west/a", "eu/x/y")}

    assert {text: rank and rank.share for text, rank in found.items()} == {
        "us/east/a": 70,
        "us/east/b": 30,
        "us/west/a": 30,
        "eu/x/y": None,
    }


@given(st.tuples(*[st.sampled_from(["", "a", "b"])] * 3), st.tuples(*[st.sampled_from(["", "a", "b"])] * 3))
def test_nobody_is_nearer_than_who_is_at_the_same_place(own: Locality, other: Locality) -> None:
    assert priority_by_locality(own, own, {}) == 0
    assert (priority_by_locality(own, other, {}) == 0) == (own == other)
