"""Tunnels whose peer opens no window, by the clock alone; with real tunnels: test_driver, test_hbone."""

import asyncio
from typing import cast

from l4.hbone.patience import Patience
from l4.hbone.settings import DrainSettings, HboneSettings
from l4.hbone.stalls import Stalls
from l4.hbone.tunnel import Tunnel
from tests.kit.virtual_time import run_virtually


class Blocked:
    """All that `Stalls` sees of a tunnel."""

    def __init__(self) -> None:
        self.unsent = 1

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Lab:
    def __init__(self) -> None:
        self.cut: list[tuple[object, float]] = []
        self.loop = asyncio.get_running_loop()
        self.patience = Patience(HboneSettings(stall_seconds=60), DrainSettings(drain_silence_seconds=5))
        self.stalls = Stalls(self.loop, self.patience, self._cut)

    def _cut(self, tunnel: Tunnel, seconds: float) -> None:
        self.cut.append((tunnel, self.loop.time()))
        self.stalls.since.pop(tunnel, None)

    def blocked(self) -> Tunnel:
        tunnel = cast(Tunnel, Blocked())
        self.stalls.add(tunnel, False)
        return tunnel


def test_a_tunnel_that_makes_no_progress_is_cut_after_its_time() -> None:
    async def scenario() -> None:
        lab = Lab()
        tunnel = lab.blocked()

        await asyncio.sleep(59)
        assert lab.cut == []
        lab.stalls.add(tunnel, False)
        await asyncio.sleep(2)

        assert lab.cut == [(tunnel, 60)]

    run_virtually(scenario())


def test_progress_begins_the_time_anew() -> None:
    async def scenario() -> None:
        lab = Lab()
        tunnel = lab.blocked()

        await asyncio.sleep(50)
        lab.stalls.add(tunnel, True)
        await asyncio.sleep(50)
        assert lab.cut == []
        await asyncio.sleep(11)

        assert [it for it, _ in lab.cut] == [tunnel]

    run_virtually(scenario())


def test_each_tunnel_has_its_own_time() -> None:
    async def scenario() -> None:
        lab = Lab()
        first = lab.blocked()
        await asyncio.sleep(30)
        second = lab.blocked()

        await asyncio.sleep(100)

        assert lab.cut == [(first, 60), (second, 90)]

    run_virtually(scenario())


def test_one_that_has_nothing_left_to_send_is_let_go() -> None:
    async def scenario() -> None:
        lab = Lab()
        tunnel = lab.blocked()
        cast(Blocked, tunnel).unsent = 0

        await asyncio.sleep(100)

        assert lab.cut == []
        assert lab.stalls.since == {}

    run_virtually(scenario())


def test_while_the_process_stops_the_shorter_time_counts_from_then_on() -> None:
    async def scenario() -> None:
        lab = Lab()
        tunnel = lab.blocked()
        await asyncio.sleep(10)

        lab.patience.is_stopping = True
        lab.stalls.begin_anew()
        await asyncio.sleep(6)

        assert lab.cut == [(tunnel, 15)]

    run_virtually(scenario())


def test_nothing_is_cut_after_the_connection_has_ended() -> None:
    async def scenario() -> None:
        lab = Lab()
        lab.blocked()

        lab.stalls.stop()
        await asyncio.sleep(100)

        assert lab.cut == []

    run_virtually(scenario())
