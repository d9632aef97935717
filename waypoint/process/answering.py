"""The interface through which a supervisor queries a worker, and its implementation for workers of the same process.

The supervisor needs nothing else of a worker. All queries are awaited and answers are plain values, so that a worker
may run in another process.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from l4.config.documents import Problem
from l4.readiness import Readiness
from l4.telemetry.samples import MetricsSnapshot
from waypoint.ask.explain import explain
from waypoint.ask.explanation import Explanation
from waypoint.ask.question import Question
from waypoint.config.dump import dump
from waypoint.process.as_envoy import configs
from waypoint.process.facts import OF_SNAPSHOT, Rows, table
from waypoint.process.worker import Worker
from waypoint.telemetry.record import ExchangeRecord
from waypoint.telemetry.recorder import RecorderSettings
from waypoint.telemetry.tap import Watcher
from waypoint.upstream.state import described


@dataclass(frozen=True, slots=True)
class Counts:
    """Active connections and exchanges, and the version of the live configuration with the number of its problems."""

    configuration: str
    problems: int
    connections: int
    exchanges: int


class Answering(Protocol):
    """A worker as its supervisor sees it. Implements `l4.admin.Part`."""

    @property
    def name(self) -> str: ...

    @property
    def is_silent(self) -> bool:
        """Whether it is known not to answer now."""

    async def readiness(self) -> Readiness: ...
    async def metrics(self) -> MetricsSnapshot: ...
    async def counts(self) -> Counts: ...

    async def config_dump(self) -> dict[str, object]:
        """Return the live configuration, without secrets."""

    async def clusters(self, name: str | None) -> list[dict[str, object]]:
        """Return the state of all destinations, or of the one called `name`."""

    async def explain(self, question: Question) -> Explanation:
        """Explain a request. Raises InvalidQuestion."""

    async def table(self, name: str) -> Rows:
        """Return one of `waypoint.process.facts.TABLES`."""

    async def problems(self) -> Sequence[Problem]:
        """Return the problems of the live configuration, and what its analysis has found."""

    async def announce(self) -> None:
        """Tell connected clients that the waypoint will stop. It keeps serving."""

    def watched_by(self, watcher: Watcher) -> AbstractContextManager[None]:
        """Let `watcher` look at each request that ends."""


class Passing(Answering, Protocol):
    """A worker that may end before its supervisor does."""

    @property
    def last_metrics(self) -> MetricsSnapshot:
        """The newest metrics that it has told."""


class LocalWorker:
    """Implements `Answering` for a worker of this process."""

    is_silent = False

    def __init__(self, name: str, worker: Worker) -> None:
        self.name = name
        self._worker = worker

    async def readiness(self) -> Readiness:
        return self._worker.readiness

    async def metrics(self) -> MetricsSnapshot:
        return await asyncio.to_thread(self._worker.snapshot)

    async def counts(self) -> Counts:
        worker = self._worker
        snapshot = worker.holder.current
        return Counts(snapshot.version, len(snapshot.problems), worker.connection_count, worker.path.exchanges)

    async def config_dump(self) -> dict[str, object]:
        worker = self._worker
        snapshot = worker.holder.current

        def found() -> dict[str, object]:
            of_envoy = configs(snapshot.clusters, worker.parts.certificate)
            return dump(snapshot, worker.transitions.since) | {"configs": of_envoy}

        return await asyncio.to_thread(found)

    async def clusters(self, name: str | None) -> list[dict[str, object]]:
        path = self._worker.path
        return described(path.clusters, path.loop.time(), name)

    async def explain(self, question: Question) -> Explanation:
        worker = self._worker
        snapshot, settings = worker.holder.current, worker.parts.settings
        # In a thread, because a table may have thousands of routes.
        return await asyncio.to_thread(explain, snapshot, question, settings, time.time())

    async def table(self, name: str) -> Rows:
        if name in OF_SNAPSHOT:
            return await asyncio.to_thread(table, self._worker, name)
        return table(self._worker, name)

    async def problems(self) -> Sequence[Problem]:
        return self._worker.holder.current.problems

    async def announce(self) -> None:
        self._worker.announce()

    def watched_by(self, watcher: Watcher) -> AbstractContextManager[None]:
        worker = self._worker
        always = worker.parts.settings.of(RecorderSettings).redacted_names

        def take(record: ExchangeRecord) -> None:
            destination = worker.holder.current.destination(record.downstream_local)
            tokens = destination.authentication if destination is not None else None
            watcher.take(record, always | tokens.secret_names if tokens is not None else always)

        return worker.path.telemetry.watched_by(take)
