"""An event loop whose clock jumps to the next timer as soon as nothing else is left to do.

Minutes pass at once, and no test depends on the load of the machine. For code without sockets. No time passes while a
thread works for the loop.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Selector(selectors.DefaultSelector):
    now = 0.0
    in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.in_threads and timeout != 0:
            return super().select(None)
        assert timeout is not None, "everything waits, and nothing will happen"
        self.now += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        future = super().run_in_executor(executor, func, *args)
        self._clock.in_threads += 1
        future.add_done_callback(self._ended)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._clock.in_threads += 1
        await super().shutdown_default_executor(*args)

    def _ended(self, future: "asyncio.Future[Any]") -> None:
        self._clock.in_threads -= 1


def run_virtually(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(coroutine)
