"""Where the configuration comes from: files, an API server, another proxy's control plane.

A source gives all its documents at first, and then changes. About each object it has one of three answers: here it is,
it is gone, or "I don't know". Only the second removes anything; the third is a doubt (see `doubts`), and whatever the
source said last stays in force.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from l4.config import collector
from l4.config.documents import Document, ObjectKey, Problem
from l4.config.doubts import Doubt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Documents:
    """All documents, each key once and sorted by key; the problems of reading them; and what could not be read. What
    is not among the documents is gone."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different since the last answer: `changed` are the documents that came or changed, `gone` the keys of
    those that went; no key is in both. `problems` and `doubts` are all that there are by now, for there are few."""

    changed: tuple[Document, ...] = ()
    gone: tuple[ObjectKey, ...] = ()
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Doubt, ...] = ()


Answer = Documents | Changes
Take = Callable[[Answer], Awaitable[None]]


class Source(Protocol):
    @property
    def lack(self) -> str:
        """A sentence for an operator when the source has no object at all; it says where the source looks."""

    async def load(self) -> Documents:
        """All documents. What can't be reached is a doubt and raises nothing; the wait for it has a deadline."""

    async def watch(self, take: Take) -> None:
        """Pass each further answer to `take`, one after the other, until cancelled. Changes that come while `take` runs
        are joined into one answer. When `take` raises, `watch` raises too, and its next call begins with Documents:
        nobody knows what was taken."""


def in_a_thread(prepare: Callable[[Answer], T], apply: Callable[[T], None]) -> Take:
    """Prepare each answer in a thread, while the event loop goes on; then apply the result between two of its turns."""

    async def take(answer: Answer) -> None:
        with collector.paused():
            apply(await asyncio.to_thread(prepare, answer))

    return take
