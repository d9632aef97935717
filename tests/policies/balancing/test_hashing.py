"""The ring and Maglev's table: shares, and the keys that move when an endpoint is added or removed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from policies.attributes import Headers, Peer, RequestHead
from policies.balancing.hash_key import KeyKind, KeySource
from policies.balancing.maglev import Maglev
from policies.balancing.ring_hash import Ring

KEYS = [xxh64_intdigest(b"key %d" % number) for number in range(20_000)]
MEMBERS = [(f"10.0.0.{number}:9080", 1) for number in range(1, 6)]


def shares(table: Ring | Maglev) -> dict[int, float]:
    return {place: count / len(KEYS) for place, count in Counter(map(table.find, KEYS)).items()}


def test_maglev_shares_almost_evenly() -> None:
    found = shares(Maglev(MEMBERS))

    assert all(share == pytest.approx(0.2, abs=0.02) for share in found.values())


def test_the_ring_shares_as_evenly_as_its_size_lets_it() -> None:
    found = shares(Ring(MEMBERS, 1 << 16))

    assert all(share == pytest.approx(0.2, abs=0.02) for share in found.values())


@pytest.mark.parametrize("table", [Maglev, Ring])
def test_weights_are_shares(table: type[Maglev] | type[Ring]) -> None:
    members = [("10.0.0.1:80", 1), ("10.0.0.2:80", 3)]

    found = shares(Maglev(members) if table is Maglev else Ring(members, 1 << 16))

    assert found[1] == pytest.approx(0.75, abs=0.03)


@settings(max_examples=20)
@given(st.sets(st.integers(1, 250), min_size=2, max_size=12), st.data())
def test_on_the_ring_nobody_moves_but_the_keys_of_who_has_gone(numbers: set[int], data: st.DataObject) -> None:
    members = [(f"10.0.0.{number}:80", 1) for number in sorted(numbers)]
    gone = data.draw(st.integers(0, len(members) - 1))
    left = [member for place, member in enumerate(members) if place != gone]
    before, after = Ring(members, 50 * len(members)), Ring(left, 50 * len(left))  # 50 points for each

    stayed = [key for key in KEYS[:4000] if before.find(key) != gone]

    assert all(members[before.find(key)] == left[after.find(key)] for key in stayed)


def test_on_maglevs_table_few_move_but_the_keys_of_who_has_gone() -> None:
    before, after = Maglev(MEMBERS), Maglev(MEMBERS[:-1])
    stayed = [key for key in KEYS if before.find(key) != 4]

    moved = sum(before.find(key) != after.find(key) for key in stayed)

    assert moved < 0.1 * len(stayed)


def test_a_ring_of_known_members_has_envoys_points() -> None:
    ring = Ring([("10.0.0.1:80", 1), ("10.0.0.2:80", 1)], 2)

    points = sorted((xxh64_intdigest(f"10.0.0.{n}:80_0".encode()), n - 1) for n in (1, 2))

    assert ring.find(points[0][0]) == points[0][1]
    assert ring.find(points[0][0] + 1) == points[1][1]
    assert ring.find(points[1][0] + 1) == points[0][1]


# -- the key ---------------------------------------------------------------------------------------------------------

PEER = Peer(None, "10.0.0.9", 1)
HEAD = RequestHead(
    b"GET", b"app", b"/", b"user=ann&user=bob", Headers([(b"x-user", b"eve"), (b"cookie", b"a=1; session=s1")])
)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (KeySource(KeyKind.HEADER, b"x-user"), b"eve"),
        (KeySource(KeyKind.HEADER, b"x-other"), None),
        (KeySource(KeyKind.COOKIE, b"session"), b"s1"),
        (KeySource(KeyKind.COOKIE, b"other"), None),
        (KeySource(KeyKind.QUERY, b"user"), b"ann"),
        (KeySource(KeyKind.SOURCE_IP), b"10.0.0.9"),
    ],
)
def test_a_key_is_found_where_it_is_said_to_be(source: KeySource, key: bytes | None) -> None:
    assert source.find(HEAD, PEER) == key


@pytest.mark.parametrize(
    ("source", "cookie"),
    [
        (KeySource(KeyKind.COOKIE, b"s", b"/a", 60), b"s=k; Max-Age=60; Path=/a; HttpOnly"),
        (KeySource(KeyKind.COOKIE, b"s", b"", 0), b"s=k; HttpOnly"),
        (
            KeySource(KeyKind.COOKIE, b"s", b"", 0, ((b"SameSite", b"Strict"), (b"Secure", b""))),
            b"s=k; SameSite=Strict; Secure; HttpOnly",
        ),
    ],
)
def test_a_client_without_a_cookie_is_given_one(source: KeySource, cookie: bytes) -> None:
    assert source.set_cookie(b"k") == cookie
