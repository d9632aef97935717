"""Sources of configuration: files, an API server, another proxy's control plane.

A source first returns all its documents, and then changes. About each object it reports one of three things: it is
present, it is gone, or its state is unknown. Only the second removes the object. The third is a doubt (see `doubts`),
and the source's last report of the object stays in force.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from l4.config import collector
from l4.config.documents import Document, ObjectKey, Problem
from l4.config.doubts import Doubt

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Documents:
    """All documents, each key once and sorted by key, the problems of reading them, and the doubts.

    An object that is not among the documents is gone.
    """

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the last answer. `changed` are the added or changed documents, `gone` the keys of removed
    ones.

    `problems` and `doubts` are complete lists, because they are short.
    """

    changed: tuple[Document, ...] = ()
    gone: tuple[ObjectKey, ...] = ()
    problems: tuple[Problem, ...] = ()
    doubts: tuple[Doubt, ...] = ()


Answer = Documents | Changes
Take = Callable[[Answer], Awaitable[None]]


class CannotRead(Exception):
    """The source could not be read now, so nothing may be said of its objects. The message is for an operator."""


class Source(Protocol):
    @property
    def lack(self) -> str:
        """A sentence for an operator if the source has no object at all. It says where the source looks."""

    @property
    def silent_seconds(self) -> float:
        """The age of what is known: the time since the source last confirmed it. 0 if the source is always there, as
        files are."""

    async def load(self) -> Documents:
        """Return all documents. What cannot be reached is a doubt and raises nothing; the wait for it has a
        deadline."""

    async def watch(self, take: Take) -> None:
        """Pass each further answer to `take`, one after the other, until cancelled.

        Changes that arrive while `take` runs are joined into one answer. If `take` raises, `watch` raises too, and its
        next call begins with Documents, because it is unknown what was taken.
        """

    async def close(self) -> None:
        """Let go of connections. Called once, after `watch` was cancelled."""


def in_a_thread(prepare: Callable[[A], T], apply: Callable[[T], None]) -> Callable[[A], Awaitable[None]]:
    """Prepare each answer in a thread, then apply the result on the event loop, between two of its turns."""

    async def take(answer: A) -> None:
        with collector.paused():
            apply(await asyncio.to_thread(prepare, answer))

    return take
