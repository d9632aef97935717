"""Rollouts, hand-overs and deaths of a waypoint's replicas and their workers under load, one after the other: what
`tests/e2e/test_restarts.py` does once or twice, often enough to believe it.

SOAK_RATE is how many requests a second there are, of HTTP/1.1, HTTP/2 and gRPC alike; the report is printed with -s.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.fleet import fleet
from tests.kit.load import load

RATE = float(os.environ.get("SOAK_RATE", "300"))
ROLLOUTS = int(os.environ.get("SOAK_ROLLOUTS", "15"))
KILLS = int(os.environ.get("SOAK_KILLS", "10"))
HAND_OVERS = int(os.environ.get("SOAK_HAND_OVERS", "10"))
WORKERS = {"WAYPOINT_WORKERS": "2"}
_ROLLOUT_SECONDS = 60.0
_KILL_SECONDS = 15.0
_HAND_OVER_SECONDS = 40.0


@pytest.mark.soak
@pytest.mark.timeout(ROLLOUTS * _ROLLOUT_SECONDS + 120)
def test_no_rollout_fails_a_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fleet(tmp_path) as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            for _ in range(ROLLOUTS):
                await it.roll_out()

        print(f"\n{ROLLOUTS} rollouts: {log.report()}")
        assert not log.failed, log.report()

    run(scenario(), ROLLOUTS * _ROLLOUT_SECONDS + 60)


@pytest.mark.soak
@pytest.mark.timeout(KILLS * _KILL_SECONDS + 120)
def test_no_death_fails_a_request_that_was_not_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fleet(tmp_path) as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            for number in range(KILLS):
                await it.kill(number % len(it.replicas))
                await asyncio.sleep(2)

        lost = it.lost(log)
        late = f"the last that a death cost began {it.last_to_know(log) * 1000:.0f} ms after it"
        print(f"\n{KILLS} deaths: {log.report()}; {late}; lost without having been under way: {len(lost)}")
        assert not lost, f"{lost}; {log.report()}"

    run(scenario(), KILLS * _KILL_SECONDS + 60)


@pytest.mark.soak
@pytest.mark.timeout(HAND_OVERS * _HAND_OVER_SECONDS + 120)
def test_no_hand_over_between_waypoints_with_workers_fails_a_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fleet(tmp_path, **WORKERS) as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            for number in range(HAND_OVERS):
                await it.hand_over(number % len(it.replicas))

        print(f"\n{HAND_OVERS} hand-overs: {log.report()}")
        assert not log.failed, log.report()

    run(scenario(), HAND_OVERS * _HAND_OVER_SECONDS + 60)


@pytest.mark.soak
@pytest.mark.timeout(KILLS * _KILL_SECONDS + 120)
def test_no_death_of_a_worker_fails_a_request_that_was_not_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fleet(tmp_path, **WORKERS) as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            for number in range(KILLS):
                await it.kill_worker(number % len(it.replicas))
                await asyncio.sleep(2)

        lost = it.lost(log)
        late = f"the last that a death cost began {it.last_to_know(log) * 1000:.0f} ms after it"
        print(f"\n{KILLS} deaths of workers: {log.report()}; {late}; lost without having been under way: {len(lost)}")
        assert not lost, f"{lost}; {log.report()}"

    run(scenario(), KILLS * _KILL_SECONDS + 60)
