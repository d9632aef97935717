import resource

import pytest

from l4.net.capacity import Capacity


def test_places_are_taken_and_given_back() -> None:
    capacity = Capacity(2)

    taken = [capacity.take() for _ in range(3)]
    capacity.give_back()

    assert taken == [True, True, False]
    assert capacity.take()
    assert capacity.limit == "max_connections"


def test_a_shut_capacity_refuses_and_names_the_memory_limit() -> None:
    capacity = Capacity(2)
    capacity.is_shut = True

    assert not capacity.take()
    assert capacity.limit == "memory_limit_bytes"
    capacity.is_shut = False
    assert capacity.take()


def test_few_file_descriptors_make_few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 10))

    capacity = Capacity(1000)

    assert [capacity.take() for _ in range(5)] == [True] * 4 + [False]


def test_without_a_limit_of_files_the_setting_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    capacity = Capacity(1)

    assert [capacity.take(), capacity.take()] == [True, False]
