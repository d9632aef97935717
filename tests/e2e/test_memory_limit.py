"""A waypoint that runs out of memory reports it, and turns clients away instead of being killed."""

from pathlib import Path

import pytest

from l4.hbone.errors import TunnelError
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
