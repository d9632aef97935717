"""Entries that end in time are never late; all others are, in order. Nothing is kept of either."""

import asyncio
import gc
import weakref

import pytest

from l4.net.deadlines import Deadlines
from tests.kit.aio import run


class Waiting:
    def __init__(self, late: list["Waiting"]) -> None:
        self.late = late
        self.told = asyncio.Event()

    def timed_out(self) -> None:
        self.late.append(self)
        self.told.set()


def test_who_does_not_end_in_time_is_told_in_order() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        late: list[Waiting] = []
        first, second, third = (Waiting(late) for _ in range(3))
        began = loop.time()
        deadlines.begin(second, 0.4)
        deadlines.begin(first, 0.02)
        await asyncio.sleep(0.1)
        assert late == [first]
        deadlines.begin(third, 0.4)
        await third.told.wait()
        assert late == [first, second, third]
        assert 0.499 <= loop.time() - began < 2

    run(scenario())


def test_who_ends_in_time_is_not_told_and_not_kept() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        late: list[Waiting] = []
        others = [Waiting(late) for _ in range(3)]
        for it in others:
            deadlines.begin(it, 0.05)
        ended = Waiting(late)
        deadlines.begin(ended, 0.05)
        deadlines.end(ended, 0.05)
        deadlines.end(ended, 0.05)
        deadlines.end(ended, 7)
        is_kept = weakref.ref(ended)
        del ended
        gc.collect()
        assert is_kept() is None
        deadlines.end(others[0], 0.05)
        await asyncio.sleep(0.2)
        assert late == others[1:]

    run(scenario())


def test_an_old_timer_waits_for_whoever_is_left() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        late: list[Waiting] = []
        old, young = Waiting(late), Waiting(late)
        deadlines.begin(old, 0.4)
        await asyncio.sleep(0.2)
        deadlines.begin(young, 0.4)
        deadlines.end(old, 0.4)
        await asyncio.sleep(0.25)
        assert late == []
        await young.told.wait()
        assert late == [young]

    run(scenario())


def test_who_is_late_may_end_others_and_begin_again() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        late: list[Waiting] = []

        class Again(Waiting):
            def timed_out(self) -> None:
                super().timed_out()
                deadlines.end(self, 0.02)
                deadlines.end(other, 0.02)
                if len(self.late) < 3:
                    deadlines.begin(self, 0.02)

        it, other = Again(late), Waiting(late)
        deadlines.begin(it, 0.02)
        await asyncio.sleep(0.01)
        deadlines.begin(other, 0.02)
        await asyncio.sleep(0.2)
        assert late == [it, it, it]

    run(scenario())


def test_few_timers_are_left_behind() -> None:
    loop = asyncio.new_event_loop()
    deadlines = Deadlines(loop)
    many = [Waiting([]) for _ in range(1000)]
    for seconds, it in enumerate(many):
        deadlines.begin(it, seconds + 60.0)
    for seconds, it in enumerate(many):
        deadlines.end(it, seconds + 60.0)
    timers = [it for it in gc.get_objects() if isinstance(it, asyncio.TimerHandle) and not it.cancelled()]
    assert len(timers) <= 8
    loop.close()


def test_one_that_fails_when_it_is_told_does_not_keep_the_others_waiting() -> None:
    class Failing:
        def timed_out(self) -> None:
            raise KeyError("gone")

    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())
        late: list[Waiting] = []
        waiting = Waiting(late)
        deadlines.begin(Failing(), 0.02)
        deadlines.begin(waiting, 0.02)

        await waiting.told.wait()

        assert late == [waiting]

    run(scenario())


def test_what_a_task_does_is_cancelled_when_its_time_is_over() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())

        with pytest.raises(TimeoutError), deadlines.limit(0.01):
            await asyncio.sleep(5)

        await asyncio.sleep(0)  # the task goes on

    run(scenario())


def test_what_ends_in_time_is_not_cancelled_later() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())

        with deadlines.limit(0.01):
            await asyncio.sleep(0)

        await asyncio.sleep(0.05)

    run(scenario())


def test_a_cancellation_from_elsewhere_is_no_timeout() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())

        async def wait() -> None:
            with deadlines.limit(5):
                await asyncio.sleep(5)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())


def test_a_time_limit_inside_another_leaves_it_in_force() -> None:
    async def scenario() -> None:
        deadlines = Deadlines(asyncio.get_running_loop())

        async def wait() -> None:
            with pytest.raises(TimeoutError), deadlines.limit(0.01):
                await asyncio.sleep(5)
            await asyncio.sleep(5)

        with pytest.raises(TimeoutError), deadlines.limit(0.05):
            await wait()

    run(scenario())
