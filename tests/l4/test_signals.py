"""Effects of signals on a program; a second signal that ends it: tests/l4/ztunnel/test_cli.py."""

import asyncio
import logging
import os
import signal

import pytest

from l4 import signals
from tests.kit.aio import run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_other_programs_begins_to_drain(number: signal.Signals) -> None:
    async def scenario() -> None:
        stopping = signals.Stopping()
        signals.follow(stopping, None)

        os.kill(os.getpid(), number)

        async with asyncio.timeout(10):
            await stopping.wait()

    run(scenario())


def test_an_operator_begins_to_drain_as_well_and_may_ask_twice() -> None:
    async def scenario() -> None:
        stopping = signals.Stopping()

        stopping.begin()
        stopping.begin()

        async with asyncio.timeout(10):
            await stopping.wait()

    run(scenario())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGHUP, "are reloaded automatically; ignored"),
        (signal.SIGUSR1, "there is no access log to reopen"),
        (signal.SIGUSR2, "has no function; ignored"),
    ],
)
def test_other_signals_only_write_a_line(number: signal.Signals, words: str) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.put_nowait(record.getMessage())

    async def scenario() -> None:
        stopping = signals.Stopping()
        signals.follow(stopping, None)

        os.kill(os.getpid(), number)

        async with asyncio.timeout(10):
            assert words in await lines.get()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.05)

    handler, level = Lines(), signals.log.level
    signals.log.addHandler(handler)
    signals.log.setLevel(logging.INFO)
    try:
        run(scenario())
    finally:
        signals.log.removeHandler(handler)
        signals.log.setLevel(level)
