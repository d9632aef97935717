"""Measures how late the event loop is. A late loop makes every request wait, whatever the policies say."""

import asyncio

from l4.telemetry.metrics import Histogram

_MEASURE_SECONDS = 0.25


async def measure(lag: Histogram) -> None:
    """Record how late each timer fires, in milliseconds, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _MEASURE_SECONDS
        await asyncio.sleep(_MEASURE_SECONDS)
        lag.observe(max(loop.time() - due, 0.0) * 1000)
