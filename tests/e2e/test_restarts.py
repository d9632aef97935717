"""Restarts fail no request. Real processes: a ztunnel, and the replicas of a waypoint behind it."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.fleet import fleet
from tests.kit.load import load
from tests.kit.mesh import settled
from tests.kit.origin import answering, hang, origin
from tests.kit.process import waypoint_process

RATE = 60


@pytest.mark.timeout(120)
def test_a_rollout_fails_no_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = {"DRAIN_DELAY_SECONDS": "1.5"}
        async with fleet(tmp_path, **settings) as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            await it.roll_out()
            await asyncio.sleep(1)

        assert not log.failed, log.report()
        assert len(log.requests) > 3 * RATE

    run(scenario(), 110)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hand_over_between_processes_on_the_same_ports_fails_no_request(tmp_path: Path, workers: str) -> None:
    async def scenario() -> None:
        settings = {"DRAIN_DELAY_SECONDS": "1.5", "WAYPOINT_WORKERS": workers}
        async with fleet(tmp_path, **settings) as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            for number in range(2):
                await it.hand_over(number)
            await asyncio.sleep(1)

        assert not log.failed, log.report()

    run(scenario(), 110)


@pytest.mark.timeout(120)
def test_a_replica_that_is_killed_costs_what_it_was_doing_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fleet(tmp_path) as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            for number in range(2):
                await it.kill(number)
                await asyncio.sleep(1)

        lost = it.lost(log)
        assert not lost, f"{lost}; {log.report()}"
        assert len(log.requests) > 3 * RATE

    run(scenario(), 110)


@pytest.mark.timeout(120)
def test_a_worker_that_is_killed_costs_what_it_was_doing_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with fleet(tmp_path, WAYPOINT_WORKERS="2") as it, load(it.http, it.grpc, RATE) as log:
            await asyncio.sleep(1)
            for number in range(2):
                await it.kill_worker(number)
                await asyncio.sleep(1)

        lost = it.lost(log)
        assert not lost, f"{lost}; {log.report()}"
        assert len(log.requests) > 3 * RATE

    run(scenario(), 110)


@pytest.mark.parametrize("is_busy", [True, False], ids=["waiting for an answer", "idle"])
def test_a_frozen_client_does_not_hold_the_process(tmp_path: Path, is_busy: bool) -> None:
    """Frozen as by SIGSTOP: its connection stands, and nothing reads it."""

    async def scenario() -> None:
        async with waypoint_process(tmp_path, DRAIN_SILENCE_SECONDS="1") as it, origin(it.pod, hang):
            _, writer = await it.open()
            if is_busy:
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                await asyncio.sleep(0.2)
            for driver in it.pool.drivers:
                driver.transport.pause_reading()
            it.process.terminate()
            began = time.monotonic()

            await asyncio.wait_for(it.process.wait(), 9)

            assert time.monotonic() - began < 6

    run(scenario())


def test_signals_of_other_meanings_end_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        with (tmp_path / "log").open("wb") as log:
            async with waypoint_process(tmp_path, log=log) as it, origin(it.pod, answering()):
                (tmp_path / "access.log").rename(tmp_path / "access.log.1")
                for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                    it.process.send_signal(number)

                reader, writer = await it.open()
                writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                writer.close()
                await settled((tmp_path / "access.log").exists)

        told = (tmp_path / "log").read_text()
        assert all(name in told for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"))

    run(scenario())
