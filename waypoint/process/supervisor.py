"""Answers operators for all workers, through the interface in `waypoint.process.answering`.

Metrics are added up, and keep what workers counted that have ended (`waypoint.process.places`). The waypoint is ready
if the process and each worker are. All workers have the same configuration, so one of them dumps and explains it; if
there are several, `/config_dump` includes the live version of each. `/clusters`, `/endpoints` and `/connections` show
each worker separately, since each has its own connections and ejections.

A worker that does not answer delays a page by at most EACH_SECONDS. The answers of the others are shown, and the header
`l4.admin.LACKS` says whose is missing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import TypeVar

from l4.admin import NoAnswer, OperatorAddresses, OperatorPorts, Part, answer
from l4.config.documents import Problem
from l4.partial import lacks
from l4.problems_page import PROBLEMS_PATH, PROBLEMS_SHOWS, problems_page
from l4.readiness import Readiness
from l4.telemetry.metrics import MeshMetrics
from waypoint.ask.explanation import Explanation
from waypoint.ask.page import EXPLAIN_PATH, EXPLAIN_SHOWS, explain_page
from waypoint.ask.question import Question
from waypoint.console.page import console_pages
from waypoint.metrics import EXPIRING
from waypoint.process.answering import Answering, Counts, Passing
from waypoint.process.as_envoy import cluster_statuses
from waypoint.process.facts import COUNTED_BY_EACH_WORKER, OF_EACH_WORKER, TABLES, Rows, merged, table_page
from waypoint.process.places import Expiry, Place
from waypoint.process.streams import TAP_PATH, TAP_SHOWS, TOP_PATH, TOP_SHOWS, Streams
from waypoint.replica import WORKER_SILENT
from waypoint.telemetry.tap import Watcher
from waypoint.upstream.state import CLUSTERS_PATH, CLUSTERS_SHOWS, clusters_page

T = TypeVar("T")

EACH_SECONDS = 2.0
"""Time limit of a worker's answer where those of others are of use without it."""
COUNTS_SECONDS = 5.0
"""Workers that are killed lose what they counted in this time. Asking one with 20,000 series costs 7 ms of CPU."""


class Supervisor:
    """Serves the operator ports.

    `metrics` are the process's own; `pending` is what the process must do before it is ready. `stop` is called when an
    operator asks the process to exit. `names` say who the process is, on the page `/status`. `on_level` learns of a new
    log level. Further workers `join`, and may `leave`.
    """

    def __init__(
        self,
        workers: Iterable[Answering],
        metrics: MeshMetrics,
        pending: Iterable[str],
        stop: Callable[[], None],
        names: Mapping[str, object] | None = None,
        on_level: Callable[[str], None] = lambda level: None,
    ) -> None:
        self._workers = list(workers)
        self._parts: list[Part] = [*self._workers]
        self._places: dict[str, Place] = {}
        self._looking: dict[Watcher, dict[Answering, ExitStack]] = {}
        self._names = dict(names or {})
        self._metrics = metrics
        self._on_level = on_level
        streams = Streams(self._watched_by, self._silent)
        self._ports = OperatorPorts(
            metrics,
            pending,
            self._config_dump,
            stop,
            {
                EXPLAIN_PATH: (EXPLAIN_SHOWS, explain_page(self._explain)),
                CLUSTERS_PATH: (CLUSTERS_SHOWS, clusters_page(self._clusters, cluster_statuses)),
                TAP_PATH: (TAP_SHOWS, streams.tap),
                TOP_PATH: (TOP_SHOWS, streams.top),
                **{f"/{name}": (shows, table_page(name, self._table)) for name, shows in TABLES.items()},
                PROBLEMS_PATH: (PROBLEMS_SHOWS, problems_page(self._problems)),
                **console_pages("waypoint", "waypoint"),
            },
            self._parts,
            about=self._about,
            drain=self.announce,
            on_level=self._level,
        )

    @property
    def readiness(self) -> Readiness:
        """Readiness of the process itself."""
        return self._ports.readiness

    @property
    def addresses(self) -> OperatorAddresses:
        return self._ports.addresses

    def join(self, worker: Passing) -> None:
        """Ask this worker, too, from now on. Whoever looks at live requests sees its."""
        if worker.name not in self._places:
            silent = self._metrics.of(WORKER_SILENT).labels((worker.name,))
            place = self._places[worker.name] = Place(worker.name, silent)
            self._parts.append(place)
        self._places[worker.name].enter(worker)
        self._workers.append(worker)
        self._workers.sort(key=lambda other: other.name)
        for watcher, looks in self._looking.items():
            looks[worker] = _look(worker, watcher)

    def leave(self, worker: Passing) -> None:
        """Ask this worker no more, but keep what it has counted."""
        self._places[worker.name].leave()
        self._workers.remove(worker)
        for looks in self._looking.values():
            looks.pop(worker).close()

    async def start(self, wanted: OperatorAddresses) -> None:
        """Open the operator ports. Raises PortUnavailable."""
        await self._ports.start(wanted)

    def stopping(self) -> None:
        """Report not ready from now on."""
        self._ports.stopping()

    async def close(self) -> None:
        await self._ports.close()

    async def expire(self, seconds: float) -> None:
        """Let the counts of workers that have ended expire like those of live ones, until cancelled."""
        loop, expiry = asyncio.get_running_loop(), Expiry(seconds, EXPIRING)
        while True:
            await asyncio.sleep(COUNTS_SECONDS)
            if not self._ports.is_measuring:  # else one place may have been asked already, and another one not
                expiry.sweep(self._places.values(), loop.time())

    async def keep_counts(self) -> None:
        """Ask workers regularly what they have counted, so that one that ends takes little with it, until cancelled."""
        while True:
            await asyncio.sleep(COUNTS_SECONDS)
            for place in list(self._places.values()):
                await place.metrics()

    async def _config_dump(self) -> dict[str, object]:
        found = await self._from_any(lambda worker: worker.config_dump())
        if len(self._workers) > 1:
            found["workers"] = {name: asdict(it) for name, it in await self._counts()}
        return found

    async def _about(self) -> dict[str, object]:
        if "identity" not in self._names and self._workers:
            with suppress(NoAnswer):
                own, *_ = await self._from_any(lambda worker: worker.table("certificates"))
                self._names["identity"] = own["identity"]
        counts = await self._counts()
        first = counts[0][1] if counts else None
        return {
            "program": "waypoint",
            **self._names,
            "configuration": first.configuration if first else "",
            "problems": first.problems if first else 0,
            "connections": sum(it.connections for _, it in counts),
            "exchanges": sum(it.exchanges for _, it in counts),
            "workers": [{"name": name, **asdict(it)} for name, it in counts],
        }

    async def announce(self) -> None:
        """Tell connected clients that the waypoint will stop. Raises NoAnswer if no worker can."""
        await self._each(lambda worker: worker.announce())

    def _level(self, level: str) -> None:
        self._on_level(level)
        for name in self._silent():
            lacks(f"{name} does not answer: it has the new level when it does")

    def _silent(self) -> Sequence[str]:
        return [it.name for it in self._workers if it.is_silent]

    async def _counts(self) -> list[tuple[str, Counts]]:
        """Return those of the workers that answer, perhaps of none."""
        try:
            return await self._each(lambda worker: worker.counts())
        except NoAnswer:
            return []

    async def _table(self, name: str) -> Rows:
        if name not in OF_EACH_WORKER | COUNTED_BY_EACH_WORKER:
            return await self._from_any(lambda worker: worker.table(name))
        found = await self._each(lambda worker: worker.table(name))
        if name in COUNTED_BY_EACH_WORKER:
            return merged([rows for _, rows in found])
        return [row | {"worker": worker} for worker, rows in found for row in rows]

    async def _problems(self) -> Iterable[Problem]:
        return await self._from_any(lambda worker: worker.problems())

    async def _explain(self, question: Question) -> Explanation:
        return await self._from_any(lambda worker: worker.explain(question))

    async def _clusters(self, name: str | None) -> list[dict[str, object]]:
        if len(self._workers) == 1:
            return await answer(self._workers[0].name, self._workers[0].clusters(name))
        found = await self._each(lambda worker: worker.clusters(name))
        return [{"worker": worker, **it} for worker, clusters in found for it in clusters]

    @contextmanager
    def _watched_by(self, watcher: Watcher) -> Iterator[None]:
        looks = self._looking[watcher] = {worker: _look(worker, watcher) for worker in self._workers}
        try:
            yield
        finally:
            del self._looking[watcher]
            for look in looks.values():
                look.close()

    async def _each(self, ask: Callable[[Answering], Awaitable[T]]) -> list[tuple[str, T]]:
        """Return the name and the answer of each worker that gives one. All are asked at the same time. Raises NoAnswer
        if none gives one."""
        workers = self._some()
        asked = (answer(it.name, ask(it), EACH_SECONDS) for it in workers)
        found: list[tuple[str, T]] = []
        missing: list[NoAnswer] = []
        for worker, its in zip(workers, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(its, NoAnswer):
                missing.append(its)
                lacks(str(its))
            elif isinstance(its, BaseException):
                raise its
            else:
                found.append((worker.name, its))
        if not found:
            raise missing[0]
        return found

    async def _from_any(self, ask: Callable[[Answering], Awaitable[T]]) -> T:
        """Return the answer of the first worker that gives one. Raises NoAnswer if none does."""
        *others, last = sorted(self._some(), key=lambda worker: not worker.is_silent)
        for worker in others:
            try:
                return await answer(worker.name, ask(worker), EACH_SECONDS)
            except NoAnswer:
                continue
        return await answer(last.name, ask(last))

    def _some(self) -> Sequence[Answering]:
        """Return the workers as they are now. Raises NoAnswer if there is none."""
        if not self._workers:
            raise NoAnswer("the waypoint", "has no worker now")
        return tuple(self._workers)


def _look(worker: Answering, watcher: Watcher) -> ExitStack:
    """Let the watcher look at the worker's requests until the result is closed."""
    stack = ExitStack()
    stack.enter_context(worker.watched_by(watcher))
    return stack
