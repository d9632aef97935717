"""Follows the configuration: what the files say goes live, and whoever should know is told.

    documents → pipeline → put in force by each worker → analyze

`prepare` compiles in a thread, while requests go on; `apply` makes it live between two loop turns, so that an exchange
that has begun keeps what it read. What `waypoint analyze` finds beside the problems is looked for afterwards, so that
nothing goes live any later for it; and where only endpoints change, seldom, so that it takes little of the CPU.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from l4.config.collector import paused
from l4.config.documents import Problem
from l4.config.doubts import concern
from l4.config.settings import Settings
from l4.config.sources import Documents, FolderSource
from l4.config.telling import Changed, Changes, Telling
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics
from l4.telemetry.process_log import EACH
from waypoint.ask.analyze import findings
from waypoint.ask.lines import Lines
from waypoint.ask.lint import Subject
from waypoint.config.inputs import why_no_gateway
from waypoint.config.pipeline import Compiled, Pipeline
from waypoint.config.settings import ConfigSettings
from waypoint.config.snapshot import Snapshot
from waypoint.process.options import RunOptions
from waypoint.upstream.balancer import prepare as prepare_balancing

log = logging.getLogger(__name__)

_ANALYSIS_REST = 49
"""How long an analysis is rested from, in its own durations, before another one where only endpoints changed: it takes
2 % of the CPU at most."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A snapshot to go live, and what to tell of it. `lack` says why it is none to serve with, if so."""

    compiled: Compiled
    changed: Changed
    problems: tuple[Problem, ...]
    lack: str

    @property
    def snapshot(self) -> Snapshot:
        return self.compiled.snapshot


class Following:
    def __init__(
        self,
        options: RunOptions,
        settings: Settings,
        *,
        put_in_force: Callable[[Snapshot], None],
        readiness: Readiness,
        metrics: MeshMetrics,
    ) -> None:
        self._gateway = options.gateway.namespace, options.gateway.name
        self._paths = ", ".join(map(str, options.resources))
        self._source = FolderSource(options.resources)
        self._pipeline = Pipeline(self._gateway, settings, settings.of(ConfigSettings).instance_ip or options.own_ip)
        self._put_in_force = put_in_force
        self._version = ""
        self._readiness = readiness
        self._metrics = metrics
        self._ignored: frozenset[str] = frozenset()
        self._lack = ""
        self._problems, self._findings, self._changes = Telling(log, EACH), Telling(log, EACH), Changes()
        self._prepared: Prepared | None = None
        self._latest: Prepared | None = None
        self._is_new, self._has_new_rules = asyncio.Event(), asyncio.Event()

    def begin(self) -> None:
        """Read the files, and take what they say, without any waiting."""
        self._apply(self._prepare(self._source.load()))

    async def watch(self) -> None:
        """Until cancelled."""
        await self._source.watch(self._prepare, self._apply)

    async def analyze(self) -> None:
        """Look for what is hardly meant, after each change, until cancelled."""
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
                    self._is_new.set()  # it is still to be analyzed, by the loop that begins again
                    raise
                if not self._has_new_rules.is_set():
                    self._findings.tell(found)
                with suppress(TimeoutError):
                    async with asyncio.timeout((time.monotonic() - began) * _ANALYSIS_REST):
                        await self._has_new_rules.wait()

    def _prepare(self, documents: Documents) -> Prepared:
        """Compile. Runs in a thread while requests go on, and while nothing else compiles."""
        before = self._prepared
        compiled = self._pipeline.compile(documents)
        snapshot = compiled.snapshot
        known = before.snapshot.clusters if before is not None else {}
        for name, config in snapshot.clusters.items():
            if config is not known.get(name):
                prepare_balancing(config)
        is_same = before is not None and before.snapshot.problems is snapshot.problems
        lack = ""
        if not documents.documents:
            lack = f"there is no object in {self._paths}; see --resources"
        elif not snapshot.has_gateway:
            lack = f"{why_no_gateway(compiled.resources, self._gateway)}; see --gateway"
        self._prepared = Prepared(
            compiled,
            self._changes.compare(documents.documents),
            before.problems if before is not None and is_same else tuple(Lines({}).located(snapshot.problems)),
            lack,
        )
        return self._prepared

    def _apply(self, prepared: Prepared) -> None:
        """Make a new snapshot live. Nothing in here waits."""
        snapshot = prepared.snapshot
        is_new = snapshot.version != self._version
        if is_new:
            self._put_in_force(snapshot)
            self._version = snapshot.version
        self._tell(prepared)
        self._changes.accept(prepared.changed)
        words, count = prepared.changed.words, len(snapshot.destinations)
        if is_new or words:
            log.info("configuration %s is live: %d destinations%s", snapshot.version, count, words and f"; {words}")
        self._latest = prepared
        self._is_new.set()
        if prepared.compiled.has_new_rules:
            self._has_new_rules.set()

    def _tell(self, prepared: Prepared) -> None:
        """Each problem, and each kind that is not read, once."""
        readiness, compiled = self._readiness, prepared.compiled
        readiness.concern("configuration", prepared.lack)
        readiness.concern("configuration files", concern(compiled.doubts))
        if compiled.is_understood and not prepared.lack:
            readiness.done("configuration")
        ignored = frozenset(f"ignored: {count} objects of kind {kind}" for kind, count in compiled.ignored.items())
        for line in sorted(ignored - self._ignored):
            log.info("%s", line, extra=EACH)
        self._ignored = ignored
        if prepared.lack not in {"", self._lack}:
            log.warning("%s", prepared.lack)
        self._lack = prepared.lack
        self._problems.tell(prepared.problems)
        self._metrics.config_problems.value = len(prepared.problems)
        self._metrics.config_doubts.value = len(compiled.doubts)


def _found(live: Prepared) -> list[Problem]:
    snapshot = live.snapshot
    with paused():
        return findings(Subject(live.changed.documents, live.compiled.resources, snapshot.registry, (snapshot,)))
