"""The waypoint with a beat in its event loop, which shows what stops it: a program for `waypoint_process`.

Every few milliseconds the beat looks at the CPU time that the loop's thread has used since. What one callback uses
more, all others wait for. Unlike the wall clock, this says the same on a machine that is busy with something else. At
the end the longest stops are written to the file BEATS, as JSON: seconds since the start, and milliseconds of CPU.
"""

import asyncio
import heapq
import json
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvloop

_BEAT_SECONDS = 0.002
_KEPT = 20


Stops = list[tuple[float, float]]
"""Milliseconds of CPU, and seconds since the start."""


async def _beat(longest: Stops) -> None:
    began = time.monotonic()
    while True:
        cpu = time.thread_time()
        await asyncio.sleep(_BEAT_SECONDS)
        stop = (time.thread_time() - cpu) * 1000, time.monotonic() - began
        heapq.heappush(longest, stop)
        if len(longest) > _KEPT:
            heapq.heappop(longest)


async def _beating(main: Coroutine[Any, Any, None], longest: Stops) -> None:
    beat = asyncio.create_task(_beat(longest))
    try:
        await main
    finally:
        beat.cancel()


def _run(main: Coroutine[Any, Any, None]) -> None:
    longest: Stops = []
    try:
        run(_beating(main, longest))
    finally:
        stops = [(round(at, 2), round(milliseconds, 1)) for milliseconds, at in sorted(longest, reverse=True)]
        Path(os.environ["BEATS"]).write_text(json.dumps(stops))


if __name__ == "__main__":
    run = uvloop.run
    uvloop.run = _run  # type: ignore[assignment]
    from waypoint.cli import main

    main()
