"""The handshakes that are ended when there are too many; with real connections: test_attacks."""

import asyncio
from collections.abc import Iterable

from l4.hbone.handshakes import STALLED_SECONDS, Handshakes
from tests.kit.virtual_time import run_virtually


def of(handshakes: Handshakes, ips: Iterable[str], now: float) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in ips]
    for task, ip in zip(tasks, ips, strict=True):
        handshakes.begin(task, ip, now)
    return tasks


def test_while_there_are_places_nobody_gives_way() -> None:
    async def scenario() -> None:
        handshakes = Handshakes(16)
        of(handshakes, ["10.0.0.1"] * 15, 0.0)

        assert not handshakes.are_too_many
        assert handshakes.stalled(100.0) == []

    run_virtually(scenario())


def test_of_the_greediest_address_the_oldest_give_way_down_to_its_share() -> None:
    async def scenario() -> None:
        handshakes = Handshakes(16)
        greedy = of(handshakes, ["10.0.0.1"] * 10, 0.0)
        of(handshakes, [f"10.0.1.{number}" for number in range(6)], 0.0)

        assert handshakes.stalled(STALLED_SECONDS) == greedy[:8]

    run_virtually(scenario())


def test_those_that_have_only_begun_do_not_give_way() -> None:
    async def scenario() -> None:
        handshakes = Handshakes(16)
        old = of(handshakes, ["10.0.0.1"] * 3, 0.0)
        of(handshakes, ["10.0.0.1"] * 13, 5.0)

        assert handshakes.stalled(5.0) == old

    run_virtually(scenario())


def test_many_addresses_within_their_share_are_left_alone() -> None:
    async def scenario() -> None:
        handshakes = Handshakes(16)
        of(handshakes, [f"10.0.0.{number // 2}" for number in range(16)], 0.0)

        assert handshakes.are_too_many
        assert handshakes.stalled(100.0) == []

    run_virtually(scenario())


def test_a_handshake_that_ended_holds_no_place() -> None:
    async def scenario() -> None:
        handshakes = Handshakes(2)
        first, _ = of(handshakes, ["10.0.0.1", "10.0.0.1"], 0.0)

        handshakes.end(first)
        handshakes.end(first)

        assert (len(handshakes), handshakes.are_many, handshakes.are_too_many) == (1, True, False)

    run_virtually(scenario())
