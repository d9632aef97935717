"""A waypoint that runs out of memory reports it, and turns clients away instead of being killed."""

import re
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelError
from tests.e2e.test_workers import two_workers
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.process import waypoint_process


def test_a_process_at_its_memory_limit_lets_nobody_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = tmp_path / "log"
        with log.open("wb") as file:
            async with waypoint_process(
                tmp_path, log=file, MEMORY_LIMIT_BYTES="1", DRAIN_DELAY_SECONDS="0"
            ) as waypoint:
                await settled(lambda: b"memory level exhausted" in log.read_bytes())

                with pytest.raises(TunnelError):
                    await waypoint.open()

                assert (await waypoint.refusals())["memory_limit_bytes"] >= 1

    run(scenario())


def test_workers_share_what_their_supervisor_leaves_of_the_limit(tmp_path: Path) -> None:
    limit = 120 << 20

    async def scenario() -> None:
        log = tmp_path / "log"
        with log.open("wb") as file:
            async with two_workers(tmp_path, log=file, MEMORY_LIMIT_BYTES=str(limit)) as waypoint:
                told = re.compile(rb"memory level exhausted: \d+ of (\d+) MiB")
                await settled(lambda: len(told.findall(log.read_bytes())) == 2)  # one of each worker

                left = limit - waypoint.rss
                for share in told.findall(log.read_bytes()):
                    assert 2 * (int(share) << 20) == pytest.approx(left, rel=0.1)

    run(scenario())
