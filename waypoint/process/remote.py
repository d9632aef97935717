"""A worker in another process, as its supervisor sees it, and the worker's end of the conversation.

`RemoteWorker` asks; `Answers` answers with a worker of its own process. What a worker tells by itself are its `Load`,
and requests that have ended, while somebody looks at them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from l4.admin import NoAnswer
from l4.config.documents import Problem
from l4.readiness import Readiness
from l4.telemetry.samples import MetricsSnapshot
from waypoint.ask.explanation import Explanation
from waypoint.ask.question import Question
from waypoint.process.answering import Answering, Counts
from waypoint.process.channel import Channel
from waypoint.process.facts import Rows
from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.tap import Watcher

_MOST_RECORDS = 500
_SEND_SECONDS = 0.02
"""Requests that end within this time are sent together, but at most `_MOST_RECORDS`."""

Seen = tuple[ExchangeRecord, frozenset[bytes]]


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker does. `busy` is the CPU time that it used in the last interval, as a share of the interval."""

    is_ready: bool
    connections: int
    exchanges: int
    busy: float


class RemoteWorker:
    """Implements `Answering` by asking over a channel.

    Its supervisor sets `is_silent` while it says nothing. It is then asked nothing: each question raises NoAnswer.
    """

    def __init__(self, name: str, ask: Callable[..., Awaitable[Any]], note: Callable[..., bool]) -> None:
        self.name = name
        self.is_silent = False
        self._put = ask
        self._note = note
        self._watchers: list[Watcher] = []
        self._last_metrics: MetricsSnapshot = ()
        self._has_ended = False
        self._one_at_a_time = asyncio.Lock()

    async def _ask(self, question: str, *arguments: object) -> Any:
        if self.is_silent:
            raise NoAnswer(self.name, "does not answer")
        return await self._put(question, *arguments)

    async def readiness(self) -> Readiness:
        found: Readiness = await self._ask("readiness")
        return found

    async def metrics(self) -> MetricsSnapshot:
        async with self._one_at_a_time:  # so that no older answer comes last
            if not self._has_ended:
                self._told(await self._ask("metrics"))
            return self._last_metrics

    @property
    def last_metrics(self) -> MetricsSnapshot:
        return self._last_metrics

    def ended(self, metrics: MetricsSnapshot) -> None:
        """Take the last metrics of a worker that has ended in order."""
        self._told(metrics)
        self._has_ended = True

    def _told(self, metrics: MetricsSnapshot) -> None:
        if not self._has_ended:
            self._last_metrics = metrics

    async def counts(self) -> Counts:
        found: Counts = await self._ask("counts")
        return found

    async def config_dump(self) -> dict[str, object]:
        found: dict[str, object] = await self._ask("config_dump")
        return found

    async def clusters(self, name: str | None) -> list[dict[str, object]]:
        found: list[dict[str, object]] = await self._ask("clusters", name)
        return found

    async def explain(self, question: Question) -> Explanation:
        found: Explanation = await self._ask("explain", question)
        return found

    async def table(self, name: str) -> Rows:
        found: Rows = await self._ask("table", name)
        return found

    async def problems(self) -> Sequence[Problem]:
        found: Sequence[Problem] = await self._ask("problems")
        return found

    async def announce(self) -> None:
        await self._ask("announce")

    @contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        self._watchers.append(watcher)
        self._note("watch", True)
        try:
            yield
        finally:
            self._watchers.remove(watcher)
            if not self._watchers:
                self._note("watch", False)

    def seen(self, records: list[Seen]) -> None:
        """Show requests that the worker has finished to those who look."""
        for watcher in self._watchers:
            for record, hidden in records:
                watcher.take(record, hidden)


class Answers:
    """Answers a supervisor. `worker` must be of this process."""

    def __init__(self, worker: Answering) -> None:
        self._worker = worker
        self._waiting: list[Seen] = []
        self._looking = ExitStack()
        self._sending: asyncio.TimerHandle | None = None
        self._channel: Channel | None = None

    async def answer(self, question: str, arguments: tuple[Any, ...]) -> object:
        return await getattr(self._worker, question)(*arguments)

    async def metrics(self) -> MetricsSnapshot:
        return await self._worker.metrics()

    def noted(self, channel: Channel, name: str, arguments: tuple[Any, ...]) -> None:
        """Take a note of the supervisor."""
        match name, *arguments:
            case "watch", is_wanted:
                self._looking.close()
                if is_wanted:
                    self._channel = channel
                    self._looking.enter_context(self._worker.watched_by(self))
            case "level", str(level):
                logging.getLogger().setLevel(level.upper())

    def take(self, record: ExchangeRecord, hidden: frozenset[bytes]) -> None:
        """Implements `Watcher`: keep a request until it is sent to the supervisor."""
        # Spans and counters of messages are this process's; the record of a finished request needs neither.
        self._waiting.append((replace(record, span=None, messages=None), hidden))
        if len(self._waiting) >= _MOST_RECORDS:
            self._send()
        elif self._sending is None:
            self._sending = asyncio.get_running_loop().call_later(_SEND_SECONDS, self._send)

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        waiting, self._waiting = self._waiting, []
        if self._channel is not None:
            self._channel.note("records", waiting)
