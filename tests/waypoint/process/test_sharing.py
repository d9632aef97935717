"""A supervisor follows an API server over HTTP, and workers ask it over Unix sockets."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from l4 import silence
from l4.admin import NoAnswer
from l4.config.inventory import Inventory
from l4.config.source import Answer, Changes, Documents
from l4.readiness import Readiness
from l4.silence import Silence
from l4.telemetry.metrics import MeshMetrics
from tests.kit.aio import run
from tests.l4.kubernetes.test_source import World, pod, world
from waypoint.process import journal, sharing
from waypoint.process.channel import Channel, connect
from waypoint.process.sharing import QUESTION, SharedSource, Sharing, Told


@dataclass
class Worker:
    """What a worker knows. Its first `failures` answers are not taken."""

    source: SharedSource
    channel: Channel
    answers: list[Answer] = field(default_factory=list)
    inventory: Inventory = field(default_factory=Inventory)
    failures: int = 0
    pause: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, answer: Answer) -> None:
        await self.pause.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("no memory is left")
        self.answers.append(answer)
        self.inventory.take(answer)

    @property
    def names(self) -> list[str]:
        return [it.key.name for it in self.inventory.documents]


@dataclass
class Shared:
    world: World
    sharing: Sharing
    readiness: Readiness
    ends: AsyncExitStack
    is_answering: asyncio.Event = field(default_factory=asyncio.Event)
    following: "asyncio.Future[None]" = field(default_factory=asyncio.Future)

    def follow(self) -> None:
        self.following = asyncio.ensure_future(self.sharing.follow())

    async def rest(self) -> None:
        """Follow no longer."""
        self.following.cancel()
        await asyncio.gather(self.following, return_exceptions=True)

    async def worker(self) -> Worker:
        """Return one that has loaded."""
        here, there = socket.socketpair()
        channel = await connect(there, "the supervisor", lambda *it: None)

        async def answer(question: str, arguments: tuple[Any, ...]) -> object:
            await self.is_answering.wait()
            return await self.sharing.answer(question, arguments)

        ours = await connect(here, "the worker", lambda *it: None, answer)
        receiving = [asyncio.ensure_future(it.run()) for it in (ours, channel)]
        self.ends.push_async_callback(asyncio.wait, receiving, timeout=5)
        self.ends.callback(channel.close)
        its = Worker(SharedSource(lambda *known: channel.ask(QUESTION, *known)), channel)
        its.pause.set()
        await its.take(await its.source.load())
        return its

    def watching(self, its: Worker) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(its.source.watch(its.take))
        self.ends.callback(task.cancel)
        return task

    def talking(self) -> None:
        """Let the server confirm what it has said, all the time."""

        async def talk() -> None:
            while True:
                self.world.server.bookmark()
                await asyncio.sleep(0.1)

        self.ends.callback(asyncio.ensure_future(talk()).cancel)


@asynccontextmanager
async def shared() -> AsyncIterator[Shared]:
    async with world(is_encoded=True) as its, AsyncExitStack() as ends:
        it = Shared(its, Sharing(its.source, readiness := Readiness()), readiness, ends)
        it.is_answering.set()
        its.server.put(pod("first"))
        it.follow()
        try:
            yield it
        finally:
            await it.rest()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_workers_know_what_the_server_has_and_the_server_is_asked_once() -> None:
    async def scenario() -> None:
        async with shared() as it:
            its = [await it.worker(), await it.worker()]
            for worker in its:
                it.watching(worker)
            server = it.world.server
            server.put(pod("second"), {"spec": {"nodeName": "é", "n": 1 << 70, "x": [1.5, True, {}]}})
            server.remove(pod("first"))
            await until(lambda: all(worker.names == ["second"] for worker in its))

            watches = [it for it in server.requests if "watch=true" in it]
            assert len(watches) == len({it.split("?")[0] for it in watches}) == 6
            one, other = (worker.inventory.documents for worker in its)
            assert one == other == it.world.source._everything().documents
            assert one[0].content is not other[0].content
            await until(lambda: all(isinstance(worker.answers[-1], Changes) for worker in its))

    run(scenario())


def test_a_change_between_the_first_answer_and_the_watch_is_not_lost() -> None:
    async def scenario() -> None:
        async with shared() as it:
            one, late = await it.worker(), await it.worker()
            it.watching(one)
            it.world.server.put(pod("second"))
            it.world.server.remove(pod("first"))
            await until(lambda: one.names == ["second"])

            assert late.names == ["first"]
            it.watching(late)
            await until(lambda: late.names == ["second"])

    run(scenario())


def test_a_worker_takes_what_comes_in_many_parts_as_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PART_BYTES", 1)  # each document is a part
    numbers = range(50)

    async def scenario() -> None:
        async with shared() as it:
            for number in numbers:
                it.world.server.put(pod(f"more-{number}"))
            await it.rest()
            it.follow()
            worker = await it.worker()
            late = await it.worker()
            assert [type(answer) for answer in worker.answers] == [Documents]
            assert len(worker.names) == len(numbers) + 1
            it.watching(worker)
            for number in numbers:
                it.world.server.remove(pod(f"more-{number}"))
            it.world.server.put(pod("last"))
            await until(lambda: worker.names == ["first", "last"])
            it.watching(late)
            await until(lambda: late.names == ["first", "last"])
            assert [type(answer) for answer in late.answers] == [Documents, Changes]

    run(scenario())


def test_a_slow_worker_holds_up_nobody_and_gets_all_that_it_missed_in_one_answer() -> None:
    async def scenario() -> None:
        async with shared() as it:
            fast, slow = await it.worker(), await it.worker()
            it.watching(fast)
            it.watching(slow)
            slow.pause.clear()
            for number in range(3):
                it.world.server.put(pod(f"more-{number}"))
                await until(lambda number=number: f"more-{number}" in fast.names)  # type: ignore[misc]
            before = len(slow.answers)
            slow.pause.set()
            await until(lambda: slow.names == fast.names)

            assert len(slow.answers) <= before + 2

    run(scenario())


def test_workers_learn_what_happened_while_the_supervisor_did_not_follow() -> None:
    async def scenario() -> None:
        async with shared() as it:
            worker = await it.worker()
            it.watching(worker)
            await it.rest()
            it.world.server.put(pod("second"))
            it.world.server.remove(pod("first"))
            assert worker.names == ["first"]
            it.follow()

            await until(lambda: worker.names == ["second"])

    run(scenario())


def test_a_worker_that_could_not_take_an_answer_gets_everything() -> None:
    async def scenario() -> None:
        async with shared() as it:
            worker = await it.worker()
            watching = it.watching(worker)
            worker.failures = 1
            it.world.server.put(pod("second"))
            with pytest.raises(OSError, match="no memory"):
                await asyncio.wait_for(watching, 20)

            it.watching(worker)
            await until(lambda: worker.names == ["first", "second"])
            assert any(isinstance(answer, Documents) for answer in worker.answers[1:])

    run(scenario())


def test_the_deepest_document_that_the_source_takes_reaches_the_workers() -> None:
    depth = 800

    async def scenario() -> None:
        async with shared() as it:
            worker = await it.worker()
            it.watching(worker)
            nested: dict[str, Any] = {}
            for _ in range(depth):
                nested = {"in": nested}
            it.world.server.put(pod("deep"), {"spec": nested})
            it.world.server.put(pod("plain"))
            await until(lambda: "plain" in worker.names)

            assert "deep" in worker.names

    run(scenario())


def test_a_source_that_is_away_is_a_doubt_and_has_its_age_in_each_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silence, "STALE_SECONDS", 1.5)

    async def scenario() -> None:
        async with shared() as it:
            its = [await it.worker()]
            it.watching(its[0])
            it.world.server.forbidden |= it.world.server.served
            it.world.server.cut()
            await until(lambda: str(its[0].answers[-1].doubts).count("(403 Forbidden)") == 6)
            await until(lambda: it.world.source.silent_seconds > 1.5)
            its.append(await it.worker())
            assert "Forbidden" in it.readiness.concerns["configuration source"]

            for worker in its:
                doubts = worker.answers[-1].doubts
                assert [doubt.has_last_good and "403" in str(doubt.problem) for doubt in doubts] == [True] * 6
                assert worker.names == ["first"]
                assert abs(worker.source.silent_seconds - it.world.source.silent_seconds) < 0.5
                readiness, metrics = Readiness(), MeshMetrics("waypoint", "test")
                Silence(
                    logging.getLogger(), readiness, metrics, lambda worker=worker: worker.source.silent_seconds
                ).look()  # type: ignore[misc]
                assert "last confirmed some objects" in readiness.concerns["age of the configuration"]
                assert metrics.config_silence.value >= 1

            it.watching(its[1])
            it.world.server.forbidden.clear()
            it.talking()
            await until(lambda: all(not worker.answers[-1].doubts for worker in its))
            assert not it.readiness.concerns
            await until(lambda: all(worker.source.silent_seconds < 1.5 for worker in its))

    run(scenario(), 60)


def test_without_a_supervisor_that_answers_what_is_known_stays_and_grows_old(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "ASK_SECONDS", 1.5)
    monkeypatch.setattr(sharing, "RETRY_SECONDS", 0.05)
    caplog.set_level(logging.INFO, sharing.__name__)

    async def scenario() -> None:
        async with shared() as it:
            it.talking()
            worker = await it.worker()
            it.watching(worker)
            await until(lambda: worker.source.silent_seconds < 0.5)
            it.is_answering.clear()
            await until(lambda: worker.source.silent_seconds > 2)
            assert it.world.source.silent_seconds < 1
            it.world.server.put(pod("second"))
            await asyncio.sleep(0.3)
            assert worker.names == ["first"]

            it.is_answering.set()
            await until(lambda: worker.names == ["first", "second"])
            await until(lambda: worker.source.silent_seconds < 1)

    run(scenario())
    assert [it.getMessage() for it in caplog.records if it.name == sharing.__name__] == [
        "the supervisor has not answered within 1.5 s; the last known configuration stays live",
        "the supervisor tells the configuration again",
    ]


def test_a_worker_whose_supervisor_ends_says_so_and_does_not_spin(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sharing, "RETRY_SECONDS", 0.2)
    asked: list[int] = []

    async def ask(number: int, begun: int) -> Told:
        asked.append(number)
        raise NoAnswer("the supervisor", "has ended")

    async def scenario() -> None:
        source = SharedSource(ask)
        with pytest.raises(NoAnswer):
            await source.load()
        watching = asyncio.ensure_future(source.watch(lambda answer: pytest.fail("nothing was told")))
        await asyncio.sleep(0.5)
        watching.cancel()

        assert len(asked) <= 4
        assert source.silent_seconds == 0, "nothing is known"

    run(scenario())
    assert len([it for it in caplog.records if "the supervisor has ended" in it.getMessage()]) == 1
