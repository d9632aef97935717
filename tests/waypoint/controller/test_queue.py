import asyncio

from l4.kubernetes.reflector import Key
from waypoint.controller.queue import FIRST_PAUSE_SECONDS, Queue

A, B = Key("n", "a"), Key("n", "b")


def test_a_key_waits_once_however_often_it_is_added() -> None:
    async def scenario() -> None:
        queue = Queue()
        for key in (A, B, A):
            queue.add(key)

        async with queue.next() as first:
            pass
        async with queue.next() as second:
            pass

        assert (first, second) == (A, B)

    asyncio.run(scenario())


def test_a_key_is_with_one_worker_at_a_time_and_comes_again_if_it_was_added_meanwhile() -> None:
    async def scenario() -> None:
        queue = Queue()
        queue.add(A)
        again = asyncio.Event()

        async def other() -> None:
            async with queue.next() as key:
                assert key == A
                again.set()

        async with queue.next():
            queue.add(A)
            task = asyncio.create_task(other())
            for _ in range(5):
                await asyncio.sleep(0)
            assert not again.is_set()
        await asyncio.wait_for(task, 5)

    asyncio.run(scenario())


def test_a_failure_comes_again_after_pauses_that_grow_until_all_is_well() -> None:
    async def scenario() -> None:
        queue = Queue()

        pauses = [queue.failed(A) for _ in range(9)]

        assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
        assert pauses[-1] == 60
        queue.well(A)
        assert queue.failed(A) == FIRST_PAUSE_SECONDS
        async with asyncio.timeout(10), queue.next() as key:
            assert key == A

    asyncio.run(scenario())
