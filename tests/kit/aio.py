"""Runs a scenario on uvloop, as production does, with a limit so that a lost wake-up fails instead of hanging."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T], seconds: float = 30) -> T:
    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await coroutine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(limited())
