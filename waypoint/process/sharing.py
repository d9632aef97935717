"""One source of configuration for all worker processes: the supervisor follows it, and workers ask what is new.

    API server ──▶ Sharing, in the supervisor ◀── "what came after step 7?" ── SharedSource, in each worker

A worker names the last step that it has taken, and gets all that has changed since. A worker that has taken none, or
one too long ago, gets everything. It asks for one part after the other (`waypoint.process.journal`), and takes all
parts as one answer. So nothing is lost when it starts or is slow, nothing waits for it in the supervisor, and it may
ask again after any failure. If there is nothing new for `ALIVE_SECONDS`, it gets an empty
answer, with the age of what the source knows. A worker that gets none keeps its configuration, whose age grows.

Contents are kept and travel as JSON, which the supervisor makes once and each worker decodes. Objects of an API server
are nothing else; what YAML files hold is not always.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from l4.admin import NoAnswer
from l4.config import collector
from l4.config.documents import Document, ObjectKey
from l4.config.doubts import concern
from l4.config.encoded import Encoded
from l4.config.source import Answer, Changes, Documents, Source, Take
from l4.readiness import Readiness
from waypoint.process.journal import Journal, News

log = logging.getLogger(__name__)

QUESTION = "configuration"
ALIVE_SECONDS = 1.0
ASK_SECONDS = 10.0
"""Time after which a worker asks again, because the supervisor stands still."""
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to a worker: what is new up to step `number` of the source, or None.

    `lack` is that of the source. `confirmed_at` is when it was told last what it knows, by the clock `time.monotonic`,
    which all processes of a machine share.
    """

    number: int
    news: News | None
    lack: str
    confirmed_at: float


class Sharing:
    """The supervisor's end. The contents of `source` must be Encoded. Its doubts go to `readiness`, because workers are
    not asked for theirs before they can serve."""

    def __init__(self, source: Source, readiness: Readiness) -> None:
        self._source = source
        self._readiness = readiness
        self._journal = Journal()
        self._is_new = asyncio.Event()

    async def follow(self) -> None:
        """Follow the source until cancelled."""
        if not self._journal.number:
            await self._take(await self._source.load())
            gc.freeze()  # the collector would stop the event loop for as long as it looks at all objects
        await self._source.watch(self._take)

    async def close(self) -> None:
        """Call after `follow` was cancelled."""
        await self._source.close()

    async def answer(self, question: str, arguments: tuple[Any, ...]) -> Told:
        """Answer a worker: `arguments` are the number of the last step that it knows, or 0, and between parts of
        everything the step at which it began, else 0."""
        assert question == QUESTION
        number, begun = arguments
        if number == self._journal.number:
            await self._wait()
        news = self._journal.since(number, begun) if number != self._journal.number else None
        confirmed_at = time.monotonic() - self._source.silent_seconds
        return Told(number if news is None else news.number, news, self._source.lack, confirmed_at)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(ALIVE_SECONDS):
                await self._is_new.wait()

    async def _take(self, answer: Answer) -> None:
        self._journal.take(answer)
        self._readiness.concern("configuration source", concern(answer.doubts))
        self._is_new.set()
        self._is_new = asyncio.Event()


class SharedSource:
    """The worker's end, a `Source`. `ask` takes the arguments of `Sharing.answer` and returns its answer."""

    def __init__(self, ask: Callable[[int, int], Awaitable[Told]]) -> None:
        self._ask = ask
        self._number = 0
        self._lack = "the supervisor has said nothing yet"
        self._confirmed_at: float | None = None
        self._failure = ""

    @property
    def lack(self) -> str:
        return self._lack

    @property
    def silent_seconds(self) -> float:
        """The age of what the supervisor knew when it answered last; 0 before anything is known."""
        return time.monotonic() - self._confirmed_at if self._confirmed_at is not None else 0.0

    async def load(self) -> Documents:
        """Return all documents. The supervisor ends a worker that waits for too long. Raises NoAnswer if the supervisor
        has gone."""
        while True:
            try:
                number, answer = await self._next()
            except TimeoutError:
                continue
            if isinstance(answer, Documents):
                self._number = number
                return answer

    async def watch(self, take: Take) -> None:
        while True:
            try:
                number, answer = await self._next()
            except (NoAnswer, TimeoutError):
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if answer is not None:
                self._number = 0  # everything, if this is not taken
                await take(answer)
            self._number = number

    async def close(self) -> None:
        """The channel to the supervisor is another's."""

    async def _next(self) -> tuple[int, Answer | None]:
        """Return the next answer, of all its parts, and the number of its last step. Raises TimeoutError, and NoAnswer
        if the supervisor has gone."""
        told, parts = await self._told(self._number, 0), _Parts()
        while told.news is not None:
            await asyncio.to_thread(parts.add, told.news)
            if told.news.is_last:
                return told.number, await asyncio.to_thread(parts.answer)
            told = await self._told(told.number, told.news.begun)
        return self._number, None

    async def _told(self, number: int, begun: int) -> Told:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                told = await self._ask(number, begun)
        except TimeoutError:
            self._tell(f"has not answered within {ASK_SECONDS:g} s")
            raise
        except NoAnswer:
            self._tell("has ended")
            raise
        self._tell("")
        self._lack = told.lack
        if told.number:
            self._confirmed_at = told.confirmed_at
        return told

    def _tell(self, failure: str) -> None:
        if failure and failure != self._failure:
            log.warning("the supervisor %s; the last known configuration stays live", failure)
        elif self._failure and not failure:
            log.info("the supervisor tells the configuration again")
        self._failure = failure


class _Parts:
    """What is new, decoded as its parts come."""

    def __init__(self) -> None:
        self._documents: dict[ObjectKey, Document] = {}
        self._gone: dict[ObjectKey, None] = {}
        self._is_everything = False
        self._last: News | None = None

    def add(self, news: News) -> None:
        if news.is_everything:
            self._documents.clear()
            self._gone.clear()
            self._is_everything = True
        with collector.paused():
            for it in news.documents:
                self._gone.pop(it.key, None)
                self._documents[it.key] = _document(it)
        for key in news.gone:
            self._documents.pop(key, None)
            self._gone[key] = None
        self._last = news

    def answer(self) -> Answer:
        assert self._last is not None
        documents = tuple(sorted(self._documents.values(), key=lambda it: it.key))
        if self._is_everything:
            return Documents(documents, self._last.problems, self._last.doubts)
        return Changes(documents, tuple(self._gone), self._last.problems, self._last.doubts)


def _document(its: Document) -> Document:
    assert isinstance(its.content, Encoded)
    return Document(its.key, its.content.decoded(), its.origin)
