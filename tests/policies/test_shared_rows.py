"""Rows of two workers on the same memory."""

from contextlib import AbstractContextManager, nullcontext

from hypothesis import given
from hypothesis import strategies as st

from policies.shared_rows import Rows, digest_of

WIDTH = 3
A_FEW = 64


def lock() -> AbstractContextManager[bool]:
    return nullcontext(True)


def two(rows: int = A_FEW) -> list[Rows]:
    memory = memoryview(bytearray(Rows.size(rows, 2, WIDTH)))
    return [Rows(memory, own, 2, WIDTH, lock) for own in range(2)]


def joined(rows: Rows, name: object) -> int:
    payload = rows.join(name)
    assert payload is not None
    return payload


def test_workers_find_a_name_in_the_same_row_and_other_names_elsewhere() -> None:
    first, second = two()

    places = {name: joined(first, name) for name in ("a", "b", "c")}

    assert {name: joined(second, name) for name in ("c", "b", "a")} == places
    assert len(set(places.values())) == 3
    first.counts[places["a"]] = 5
    first.times[places["a"] + 1] = 0.5
    assert second.counts[places["a"]] == 5
    assert second.times[places["a"] + 1] == 0.5


def test_a_row_keeps_its_numbers_as_long_as_anybody_uses_it() -> None:
    first, second = two()
    payload = joined(first, "a")
    joined(second, "a")
    first.counts[payload] = 5

    first.leave(payload)
    assert joined(first, "a") == payload
    assert first.counts[payload] == 5

    first.leave(payload)
    second.leave(payload)
    assert joined(first, "a") == payload
    assert first.counts[payload] == 0


def test_who_finds_no_room_is_known_until_there_is_some() -> None:
    first, second = two(rows=2)
    payload = joined(first, "a")
    joined(first, "b")

    assert second.join("c") is None
    assert second.refused == {"c"}
    first.leave(payload)
    assert joined(second, "c") == payload
    assert second.refused == set()


def test_without_the_lock_nobody_gets_a_row_and_may_try_again() -> None:
    is_free = False
    rows = Rows(memoryview(bytearray(Rows.size(A_FEW, 2, WIDTH))), 0, 2, WIDTH, lambda: nullcontext(is_free))

    assert rows.join("a") is None
    assert rows.missed == {"a"}
    assert rows.alone == 1
    is_free = True
    joined(rows, "a")
    assert rows.alone == 0


def test_a_worker_that_ended_uses_no_row_and_its_cells_are_zero() -> None:
    first, second = two()
    shared, alone = joined(first, "shared"), joined(first, "alone")
    joined(second, "shared")
    for cell in range(WIDTH):
        first.counts[shared + cell] = 7

    second.forget(0, range(1, 2))

    assert [second.counts[shared + cell] for cell in range(WIDTH)] == [7, 0, 7]
    assert joined(second, "other") != shared
    second.counts[alone] = 1
    assert second.counts[joined(second, "alone")] == 0


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcdef"), st.booleans()), max_size=60))
def test_two_names_in_use_never_have_the_same_row(steps: list[tuple[int, str, bool]]) -> None:
    both = two(rows=4)
    used: dict[tuple[int, str], int] = {}
    for worker, name, joins in steps:
        if joins and (worker, name) not in used:
            payload = both[worker].join(name)
            if payload is not None:
                used[worker, name] = payload
        elif not joins and (worker, name) in used:
            both[worker].leave(used.pop((worker, name)))
        rows = {(name, payload) for (_, name), payload in used.items()}
        assert len({name for name, _ in rows}) == len({payload for _, payload in rows}) == len(rows)


def test_a_digest_is_never_zero() -> None:
    assert digest_of(0) == 1
    assert digest_of("a") > 0
