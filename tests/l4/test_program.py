"""Real processes: how a program ends, by signals and when it cannot start."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

DRAINING = """
import asyncio, logging
from l4 import program, signals

async def main(process_log):
    stopping = signals.Stopping()
    signals.follow(stopping, None)
    logging.getLogger("test").info("started")
    await stopping.wait()
    logging.getLogger("test").info("draining")
    await asyncio.sleep(SECONDS)
    logging.getLogger("test").info("drained")

program.run("test", main)
"""
FAILING = """
from l4 import program
from l4.config.settings import InvalidSetting

class Ours(Exception): ...

async def main(process_log):
    raise ERROR("this and that is wrong")

program.run("test", main, Ours)
"""
STARTING = """
import asyncio
from l4 import program
import grpc

async def main(process_log):
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    async def call():
        while True:
            await asyncio.gather(channel.unary_unary("/a/b")(b""), return_exceptions=True)
    calls = [asyncio.ensure_future(call()) for _ in range(4)]
    for _ in range(200):
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0, process.returncode
    for it in calls:
        it.cancel()
    await channel.close()
    await server.stop(None)

program.run("test", main)
"""


@contextmanager
def program(code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_the_second_ends_the_process_and_says_so(number: signal.Signals) -> None:
    with program(DRAINING.replace("SECONDS", "600")) as process:
        assert "started" in line(process)
        process.send_signal(number)
        assert "draining" in line(process)
        process.send_signal(number)

        assert "stopping at once" in line(process)
        assert process.wait(20) == 1


def test_a_program_that_has_drained_ends_well() -> None:
    with program(DRAINING.replace("SECONDS", "0.1")) as process:
        assert "started" in line(process)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
            assert number.name in line(process)
        process.send_signal(signal.SIGTERM)

        assert "draining" in line(process)
        assert "drained" in line(process)
        assert process.wait(20) == 0


@pytest.mark.parametrize("error", ["InvalidSetting", "Ours"])
def test_what_makes_starting_impossible_is_one_sentence(error: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", FAILING.replace("ERROR", error)], capture_output=True, text=True, timeout=30
    )

    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", "test: this and that is wrong\n")


def test_any_other_error_comes_with_its_trace() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", FAILING.replace("ERROR", "ValueError")], capture_output=True, text=True, timeout=30
    )

    assert answer.returncode == 1
    assert "Traceback" in answer.stderr
    assert "ValueError: this and that is wrong" in answer.stderr


def test_programs_that_it_starts_during_calls_of_grpc_do_not_crash() -> None:
    with program(STARTING) as process:
        _, said = process.communicate(timeout=30)

    assert process.returncode == 0, said
