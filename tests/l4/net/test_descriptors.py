"""How many file descriptors traffic may have, by the limit of the process."""

import resource
from collections.abc import Callable

import pytest

from l4.net import descriptors, sockets
from l4.net.descriptors import OutOfDescriptors
from l4.net.listener import bind
from tests.kit.aio import run

Limit = Callable[[int, int], None]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Sets the soft and the hard limit, as far as the process sees it."""
    known = resource.getrlimit(resource.RLIMIT_NOFILE)

    def set_limits(soft: int, hard: int) -> None:
        nonlocal known
        known = soft, hard

    monkeypatch.setattr(resource, "getrlimit", lambda _: known)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_limits(*limits))
    return set_limits


@pytest.mark.parametrize(
    ("files", "for_traffic", "visits"),
    [(64, 32, 5), (256, 192, 10), (1024, 768, 42), (1 << 20, (1 << 20) - 256, 42), (-1, (1 << 30) - 256, 42)],
)
def test_a_part_is_reserved_and_operators_fit_into_half_of_it(
    limits: Limit, files: int, for_traffic: int, visits: int
) -> None:
    limits(files, files)

    assert descriptors.ceiling() == for_traffic
    assert descriptors.visits_per_operator_port() == visits


def test_all_that_the_system_allows_is_taken_and_little_of_it_is_told(
    limits: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    limits(1024, 4096)
    descriptors.raise_limit()
    assert descriptors.limit() == 4096
    assert not caplog.records

    limits(64, 64)
    descriptors.raise_limit()
    assert caplog.messages == ["only 64 file descriptors are allowed, 32 of them for traffic; raise the nofile limit"]


def test_traffic_opens_no_connection_out_of_the_reserve(limits: Limit) -> None:
    async def scenario() -> None:
        with bind("127.0.0.1", 0) as listening:
            (await sockets.connect(listening.getsockname())).close()
            limits(listening.fileno() + 32, listening.fileno() + 32)

            with pytest.raises(OutOfDescriptors):
                await sockets.connect(listening.getsockname())

    run(scenario())


def test_a_connection_that_fails_says_why_without_the_address() -> None:
    async def scenario() -> None:
        with bind("127.0.0.1", 0) as closed:
            address = closed.getsockname()

        with pytest.raises(ConnectionRefusedError) as failure:
            await sockets.connect(address)

        assert failure.value.strerror == "Connection refused"

    run(scenario())
