"""How an answer of a source is taken: prepared in a thread, applied on the loop."""

import asyncio
import threading

import pytest

from l4.config.source import Answer, Changes, in_a_thread
from tests.kit.aio import run


def test_an_answer_is_prepared_beside_the_loop_and_applied_on_it() -> None:
    async def scenario() -> None:
        threads: list[threading.Thread] = []
        may_end, turns = threading.Event(), 0

        def prepare(answer: Answer) -> Answer:
            threads.append(threading.current_thread())
            assert may_end.wait(10)
            return answer

        def apply(answer: Answer) -> None:
            threads.append(threading.current_thread())

        taking = asyncio.ensure_future(in_a_thread(prepare, apply)(Changes()))
        while not threads:
            await asyncio.sleep(0.001)
            turns += 1
        may_end.set()
        await taking

        assert turns > 0
        prepared, applied = threads
        assert prepared is not threading.current_thread()
        assert applied is threading.current_thread()

    run(scenario())


@pytest.mark.parametrize("fails", ["prepare", "apply"])
def test_a_failure_of_either_step_reaches_the_source(fails: str) -> None:
    def step(name: str) -> None:
        if name == fails:
            raise OSError(name)

    take = in_a_thread(lambda answer: step("prepare"), lambda nothing: step("apply"))

    with pytest.raises(OSError, match=fails):
        run(take(Changes()))
