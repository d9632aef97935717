import asyncio
import time

from l4.telemetry.loop_lag import measure
from l4.telemetry.metrics import Histogram
from tests.kit.aio import run
from tests.kit.mesh import settled


def test_what_blocks_the_event_loop_shows_as_its_lag() -> None:
    async def scenario() -> Histogram:
        lag = Histogram()
        task = asyncio.create_task(measure(lag))
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251 - what this is about
        await settled(lambda: sum(lag.counts) > 0)
        task.cancel()
        return lag

    assert run(scenario()).sum > 100
