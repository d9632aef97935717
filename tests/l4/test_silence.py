"""A source of a real API server over HTTP, which says nothing for a while."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from l4 import silence
from l4.config.source import Answer
from l4.discovery.kubernetes import KINDS
from l4.kubernetes.client import REQUEST_SECONDS, SILENT_SECONDS, ApiClient
from l4.kubernetes.credentials import Credentials, Secrets, Trust
from l4.kubernetes.source import KubernetesSource
from l4.readiness import Readiness
from l4.silence import STALE_SECONDS, Silence
from l4.telemetry.metrics import MeshMetrics
from tests.kit.aio import run
from tests.kit.kubernetes_server import KubernetesServer, kubernetes_server
from tests.l4.kubernetes.test_client import Given


@dataclass
class World:
    server: KubernetesServer
    readiness: Readiness
    metrics: MeshMetrics
    silence: Silence

    @property
    def concern(self) -> str:
        return "\n".join(self.readiness.concerns.values())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Look, as the program does, until the condition holds."""
        async with asyncio.timeout(20):
            while not condition():
                self.silence.look()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with kubernetes_server() as server:
        for kind in ("Pod", "Service"):
            server.serve("/api/v1", kind)
        client = ApiClient(Credentials(server.address, Trust(), Given(Secrets())))
        source, readiness, metrics = KubernetesSource(client, KINDS), Readiness(), MeshMetrics("ztunnel", "test")
        log = logging.getLogger("tests.silence")

        async def take(answer: Answer) -> None:
            pass

        await source.load()
        watching = asyncio.ensure_future(source.watch(take))
        try:
            yield World(server, readiness, metrics, Silence(log, readiness, metrics, lambda: source.silent_seconds))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await source.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [it.getMessage() for it in caplog.records if it.name == "tests.silence"]


def test_stale_objects_are_told_once_and_with_their_age_until_the_server_is_heard_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(silence, "STALE_SECONDS", 0.5)

    async def scenario() -> None:
        async with world() as it:
            await it.until(lambda: "last confirmed some objects 1 s ago" in it.concern)
            await it.until(lambda: "last confirmed some objects 2 s ago" in it.concern)
            assert it.readiness.is_ready
            assert it.metrics.config_silence.value >= 1
            (told,) = lines(caplog)
            assert "the last known ones stay live" in told

            it.server.bookmark()
            await it.until(lambda: not it.concern)
            assert it.metrics.config_silence.value == 0
            assert lines(caplog)[1:] == ["the API server confirms all objects again; they were up to 2 s old"]

    run(scenario())


def test_one_kind_that_is_no_longer_heard_of_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "STALE_SECONDS", 0.5)

    async def scenario() -> None:
        async with world() as it:
            it.server.forbidden.add("pods")
            it.server.cut()

            async def talk() -> None:
                while True:
                    it.server.bookmark()
                    await asyncio.sleep(0.05)

            talking = asyncio.ensure_future(talk())
            await it.until(lambda: bool(it.concern))
            it.server.forbidden.clear()
            await it.until(lambda: not it.concern)
            talking.cancel()

    run(scenario())


def test_a_silence_that_is_normal_between_two_bookmarks_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    longest_pause = SILENT_SECONDS
    ages = [0.0, longest_pause, longest_pause + REQUEST_SECONDS, STALE_SECONDS]
    readiness, metrics = Readiness(), MeshMetrics("ztunnel", "test")
    it = Silence(logging.getLogger("tests.silence"), readiness, metrics, iter(ages).__next__)

    for _ in ages:
        it.look()

    assert (readiness.concerns, lines(caplog)) == ({}, [])
    assert metrics.config_silence.value == STALE_SECONDS


def test_a_kind_that_was_never_listed_has_no_age() -> None:
    async def scenario() -> None:
        async with kubernetes_server() as server:
            client = ApiClient(Credentials(server.address, Trust(), Given(Secrets())))
            source = KubernetesSource(client, KINDS)
            assert source.silent_seconds == 0
            await source.close()

    run(scenario())
