"""Worker processes that cannot be started. Those that can are in tests/e2e/test_workers.py."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from l4.identity.options import CertificateFiles
from l4.net.listener import bind
from l4.net.tasks import Tasks
from l4.readiness import Readiness
from tests.kit.aio import run
from waypoint.process.options import GatewayName, RunOptions
from waypoint.process.workers import Workers

ANYWHERE = ("127.0.0.1", 0)
FILE = Path("/etc/hostname")
OPTIONS = RunOptions(
    (FILE,), GatewayName("default", "waypoint"), CertificateFiles(FILE, FILE, FILE), *[ANYWHERE] * 4, access_log=""
)


def test_a_worker_that_cannot_be_started_is_tried_again_and_leaves_no_descriptor_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    async def scenario() -> None:
        open_files: list[int] = []
        enough, readiness = asyncio.Event(), Readiness()

        def failed(_: str) -> None:
            open_files.append(len(os.listdir("/proc/self/fd")))
            if len(open_files) == 3:
                enough.set()

        tasks = Tasks(failed, readiness.concern)
        workers = Workers(
            1,
            OPTIONS,
            {},
            [bind(*ANYWHERE)],
            lambda: pytest.fail("nobody serves"),
            join=lambda worker: pytest.fail("nobody serves"),
            leave=lambda worker: pytest.fail("nobody serves"),
            start_seconds=60,
            readiness=readiness,
            tasks=tasks,
            on_refused=lambda reason: None,
        )
        await enough.wait()

        assert readiness.pending == {"worker 1", "workers"}
        assert "No such file or directory" in readiness.concerns["worker 1"]
        assert open_files[2] == open_files[1] == open_files[0]
        await workers.drain(0)
        await tasks.close()

    run(scenario())
