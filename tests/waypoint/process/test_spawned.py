import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import pytest

from tests.kit.aio import run
from waypoint.process.spawned import Spawned

TELLS = "import os, sys; os.write(int(sys.argv[1]), sys.stdin.buffer.read() + os.environ['WORD'].encode())"
MUCH = b"a" * (1 << 20)  # more than a pipe takes while nobody reads
DEADLINE_SECONDS = 15


def python(code: str, *arguments: str) -> Sequence[str]:
    return sys.executable, "-c", code, *arguments


def test_a_program_gets_what_it_is_told_its_environment_and_the_descriptors() -> None:
    async def scenario() -> None:
        here, there = os.pipe()
        with open(here, "rb") as answer:  # noqa: ASYNC230 - a pipe
            process = Spawned(python(TELLS, str(there)), {"WORD": "!"}, MUCH, [there])
            os.close(there)
            said = await asyncio.to_thread(answer.read)

            assert said == MUCH + b"!"
            assert await asyncio.wait_for(process.wait(), DEADLINE_SECONDS) == 0

    run(scenario())


def test_the_status_of_a_program_that_was_killed_is_the_signal_and_all_who_wait_learn_it() -> None:
    async def scenario() -> None:
        open_files = len(os.listdir("/proc/self/fd"))
        process = Spawned(python("import time; time.sleep(60)"), {}, b"", [])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.1)
        process.signal(signal.SIGKILL)

        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await asyncio.gather(process.wait(), process.wait()) == [-signal.SIGKILL] * 2
        process.signal(signal.SIGTERM)
        assert len(os.listdir("/proc/self/fd")) == open_files

    run(scenario())


def test_a_program_that_does_not_exist_is_an_error_and_leaves_no_descriptor_open() -> None:
    async def scenario() -> None:
        open_files = len(os.listdir("/proc/self/fd"))
        with pytest.raises(FileNotFoundError):
            Spawned(["/nowhere/python"], {}, b"", [])

        assert len(os.listdir("/proc/self/fd")) == open_files

    run(scenario())


def test_a_program_that_never_begins_holds_nobody() -> None:
    """It stands still before it reads what it is told."""

    async def scenario() -> None:
        process = Spawned(python("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"), {}, MUCH, [])
        await asyncio.sleep(0.5)
        process.signal(signal.SIGKILL)

        assert await asyncio.wait_for(process.wait(), DEADLINE_SECONDS) == -signal.SIGKILL

    run(scenario())
