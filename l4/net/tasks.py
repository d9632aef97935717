"""Owner of a program's tasks: tasks that end by themselves, and vital loops that must not end.

A vital loop (following the configuration, renewing certificates, refreshing keys) that raises or returns is restarted
after a pause, which doubles up to half a minute and is jittered, so that replicas do not retry in step. Every failure
is counted and each distinct one is logged. Until the loop has run without a failure for a while, readiness has a
concern.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from random import random
from typing import Any

log = logging.getLogger(__name__)

Begin = Callable[[], Coroutine[Any, Any, None]]
Keep = Callable[[str, Begin], "asyncio.Task[None]"]
"""Runs a vital loop until its task is cancelled."""

FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 15.0
"""A loop that has run for this long has recovered. No loop pauses longer before its first work."""


class Tasks:
    """Owns tasks. `count` receives the name of a failed loop.

    `concern` receives the name and a sentence while a loop fails, and the name and an empty text once it has recovered.
    Names become label values, so there must be few.
    """

    def __init__(
        self,
        count: Callable[[str], None] = lambda name: None,
        concern: Callable[[str, str], None] = lambda name, sentence: None,
    ) -> None:
        self._count = count
        self._concern = concern
        self._tasks: set[asyncio.Task[None]] = set()
        self._failing: dict[object, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start a task that ends by itself. A failure is logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, name: str, begin: Begin) -> "asyncio.Task[None]":
        """Run a vital loop. Several loops may share a name: one per issuer, one per destination."""
        return self.spawn(self._keep(name, begin))

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task failed", exc_info=error)

    async def _keep(self, name: str, begin: Begin) -> None:
        clock, loop = asyncio.get_running_loop(), object()
        pause, told = FIRST_PAUSE_SECONDS, ""
        try:
            while True:
                began, recovering = clock.time(), clock.call_later(STEADY_SECONDS, self._recovered, loop)
                try:
                    failure = await _run(begin)
                finally:
                    recovering.cancel()
                if clock.time() - began >= STEADY_SECONDS:
                    pause, told = FIRST_PAUSE_SECONDS, ""
                sentence = f"{name} failed and is being restarted: {failure}"
                log.log(logging.DEBUG if sentence == told else logging.ERROR, "%s", sentence, exc_info=failure)
                told = sentence
                self._count(name)
                self._failing[loop] = name, sentence
                self._concern(name, sentence)
                await asyncio.sleep(pause * (0.5 + random() / 2))
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
        finally:
            self._recovered(loop)

    def _recovered(self, loop: object) -> None:
        name, _ = self._failing.pop(loop, ("", ""))
        if name:
            others = (sentence for other, sentence in self._failing.values() if other == name)
            self._concern(name, next(others, ""))


class LoopEnded(Exception):
    """A vital loop returned, or was cancelled from inside."""


async def _run(begin: Begin) -> Exception:
    """Run the loop and return why it ended. Raises CancelledError if its task is cancelled."""
    try:
        await begin()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return LoopEnded("an operation that it awaited was cancelled")
    except Exception as error:  # the loop is restarted after any failure
        return error
    return LoopEnded("it returned")
