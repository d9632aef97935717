"""Follow the configuration: apply what the source reports, and publish the results.

    documents → pipeline → put in force by each worker → analyze

`prepare` compiles in a thread while requests continue. `apply` makes the snapshot live between two loop turns, so that
active exchanges keep their snapshot. The findings of `waypoint analyze` are computed afterwards, so that they delay
nothing; if only endpoints change, rarely, so that they use little CPU.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from l4.config.collector import free, paused
from l4.config.documents import Problem
from l4.config.source import Answer, Changes, Source, in_a_thread
from l4.config.telling import ChangeWords, Telling
from l4.configuration import ConfigurationReport
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import EACH
from waypoint.ask.analyze import findings
from waypoint.ask.lines import Lines
from waypoint.ask.lint import Subject
from waypoint.config.gateways import why_no_gateway
from waypoint.config.pipeline import Compiled, Pipeline
from waypoint.config.snapshot import Snapshot
from waypoint.upstream.balancer import prepare as prepare_balancing

log = logging.getLogger(__name__)

_ANALYSIS_REST = 99
"""Pause after an analysis, in multiples of its duration, if only endpoints changed.

Analyses thus use at most 2 % of the CPU.
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A snapshot to go live, with its messages.

    `words` describe the changes. `lack` says why there is nothing to serve, or is empty.
    """

    compiled: Compiled
    words: str
    problems: tuple[Problem, ...]
    lack: str

    @property
    def snapshot(self) -> Snapshot:
        return self.compiled.snapshot

    def pieces(self) -> list[object]:
        """Return what it consists of, for `free`."""
        snapshot, registry = self.snapshot, self.compiled.registry
        destinations = snapshot.destinations.values()
        tables = (table for it in destinations for table in (it.routes, *it.consumer_routes.values()))
        return [
            *self.compiled.documents,
            *self.compiled.resources,
            *registry.workloads.values(),
            *registry.services.values(),
            *snapshot.clusters.values(),
            *snapshot.statuses,
            *destinations,
            *(route for table in tables for route in table.routes),
        ]


class Following:
    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        *,
        prepare: Callable[[Snapshot], None] = lambda snapshot: None,
        put_in_force: Callable[[Snapshot], None],
        readiness: Readiness,
        metrics: MeshMetrics,
    ) -> None:
        """`pipeline` must be for a single Gateway. `prepare` is called in a thread, and then `put_in_force` on the
        event loop."""
        self._source = source
        self._pipeline = pipeline
        self._make_ready = prepare
        self._put_in_force = put_in_force
        self._version = ""
        self._metrics = metrics
        self._report = ConfigurationReport(log, readiness, metrics)
        self._findings, self._changes = Telling(log, EACH), ChangeWords()
        self._found: tuple[Problem, ...] = ()
        self._prepared: Prepared | None = None
        self._latest: Prepared | None = None
        self._past: list[object] = []
        self._is_new, self._has_new_rules = asyncio.Event(), asyncio.Event()
        self._told: Answer | None = None
        self._one_at_a_time = asyncio.Lock()
        self._is_compiled = asyncio.Event()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Problems of the live configuration, and what its analysis found."""
        return (*self._report.problems, *self._found)

    async def begin(self) -> None:
        """Apply the initial state of the source."""
        documents = await self._source.load()
        with paused():
            self._apply(self._prepare(documents))

    async def watch(self) -> None:
        """Apply every change until cancelled."""
        await self._source.watch(self._take)

    async def let_go(self) -> None:
        """Compile again whenever a Service that has left was served for long enough, until cancelled."""
        while True:
            leaving = self._pipeline.leaving
            seconds = leaving.rest_seconds if leaving is not None else None
            self._is_compiled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._is_compiled.wait()
                    continue
            async with self._one_at_a_time:
                told = self._told
                if told is not None:
                    await self._put(Changes(problems=told.problems, doubts=told.doubts))
            if told is None:  # the source is about to tell everything again
                await self._is_compiled.wait()

    async def _take(self, answer: Answer) -> None:
        async with self._one_at_a_time:
            await self._put(answer)

    async def _put(self, answer: Answer) -> None:
        await in_a_thread(self._prepare, self._apply)(answer)
        await asyncio.to_thread(free, self._past)
        self._is_compiled.set()

    async def close(self) -> None:
        """Call after `watch` was cancelled."""
        await self._source.close()

    async def analyze(self) -> None:
        """Analyze after every change until cancelled."""
        while True:
            await self._is_new.wait()
            self._is_new.clear()
            self._has_new_rules.clear()
            latest = self._latest
            if latest is not None:
                began = time.monotonic()
                try:
                    found = await asyncio.to_thread(_found, latest)
                except Exception:
                    self._is_new.set()  # the restarted loop will analyze it
                    raise
                if self._has_new_rules.is_set():
                    pieces = latest.pieces()
                    del latest
                    await asyncio.to_thread(free, pieces)
                    continue
                del latest
                self._findings.tell(found)
                self._found = tuple(found)
                with suppress(TimeoutError):
                    async with asyncio.timeout((time.monotonic() - began) * _ANALYSIS_REST):
                        await self._has_new_rules.wait()

    def _prepare(self, answer: Answer) -> Prepared:
        """Compile. Runs in a thread while requests continue and nothing else compiles."""
        before = self._prepared
        self._told = None
        compiled = self._pipeline.compile(answer)
        self._told = answer
        snapshot = compiled.snapshot
        known = before.snapshot.clusters if before is not None else {}
        for name, config in snapshot.clusters.items():
            if config is not known.get(name):
                prepare_balancing(config)
        self._make_ready(snapshot)
        if before is not None and compiled.has_new_rules:
            self._past = before.pieces()
        is_same = before is not None and before.snapshot.problems is snapshot.problems
        self._changes.note(compiled.taken.difference)
        self._prepared = Prepared(
            compiled.without_changes(),
            self._changes.words(),
            before.problems if before is not None and is_same else tuple(Lines({}).located(snapshot.problems)),
            self._lack(compiled),
        )
        return self._prepared

    def _lack(self, compiled: Compiled) -> str:
        """Return why there is nothing to serve, or an empty text."""
        if not compiled.documents:
            return self._source.lack
        if not compiled.snapshot.has_gateway:
            (gateway,) = compiled.snapshots
            return f"{why_no_gateway(compiled.resources, gateway)}; see --gateway"
        return ""

    def _apply(self, prepared: Prepared) -> None:
        """Make a new snapshot live, without awaiting anything."""
        snapshot = prepared.snapshot
        is_new = snapshot.version != self._version
        if is_new:
            self._put_in_force(snapshot)
            self._version = snapshot.version
            self._metrics.config_changed(time.time(), snapshot.version)
        taken = prepared.compiled.taken
        self._report.tell(taken, prepared.problems, prepared.lack, taken.ignored)
        self._changes.accept()
        words, count = prepared.words, len(snapshot.destinations)
        if is_new or words:
            level = logging.INFO if is_new else logging.DEBUG
            text = "configuration %s is live: %d destinations%s"
            extra = EACH if prepared.compiled.has_new_rules else None  # endpoints may come and go without end
            log.log(level, text, snapshot.version, count, words and f"; {words}", extra=extra)
        self._latest = prepared
        self._is_new.set()
        if prepared.compiled.has_new_rules:
            self._has_new_rules.set()


def _found(live: Prepared) -> list[Problem]:
    compiled = live.compiled
    with paused():
        return findings(Subject(compiled.documents, compiled.resources, compiled.registry, compiled.snapshots.values()))
