"""What the log of a running program says of its configuration: each problem once, that it is gone, and what changed."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from l4.config.codes import CODES, Level
from l4.config.difference import difference
from l4.config.documents import Document, Problem

_LEVELS = {Level.ERROR: logging.WARNING, Level.WARNING: logging.WARNING, Level.INFO: logging.INFO}
_MAX_CHANGES = 5


class Telling:
    """A problem in another line, or in another version of its object, is the same problem; one that was gone may come
    again. `extra` goes to the log call of each line."""

    def __init__(self, log: logging.Logger, extra: Mapping[str, object] | None = None) -> None:
        self._log = log
        self._extra = extra
        self._told: dict[tuple[object, ...], Problem] = {}
        self._last: Collection[Problem] | None = None

    def tell(self, problems: Collection[Problem]) -> None:
        """`problems` are all that there are by now."""
        if problems is self._last:
            return
        self._last = problems
        now = {_same(problem): problem for problem in sorted(problems)}
        for same, problem in self._told.items():
            if same not in now:
                self._log.info("mended or removed: %s", problem, extra=self._extra)
        for same, problem in now.items():
            if same not in self._told:
                self._log.log(_LEVELS[CODES[problem.code].level], "%s", problem, extra=self._extra)
        self._told = now


def _same(problem: Problem) -> tuple[object, ...]:
    """What two problems have in common that are one."""
    return problem.origin.place, problem.subject, problem.field, problem.sentence, problem.code


@dataclass(frozen=True, slots=True)
class Changed:
    """What is different, in words; empty when nothing is. `documents` are those that are to be compared with next."""

    words: str
    documents: tuple[Document, ...]


class Changes:
    """Which objects are new, changed or gone since what was accepted last."""

    def __init__(self) -> None:
        self._before: tuple[Document, ...] | None = None

    def compare(self, documents: Iterable[Document]) -> Changed:
        """The first time nothing is different."""
        now = tuple(documents)
        if self._before is None:
            return Changed("", now)
        found = difference(self._before, now)
        # pods last: they are many
        ordered = sorted(found.changed, key=lambda pair: pair[1].key.kind == "Pod")
        new = [_named(it) for old, it in ordered if old is None]
        changed = [_named(it) for old, it in ordered if old is not None and old.content != it.content]
        gone = [str(key) for key in sorted(found.gone, key=lambda key: key.kind == "Pod")]
        parts = (("new", new), ("changed", changed), ("gone", gone))
        return Changed("; ".join(f"{word}: {_listed(names)}" for word, names in parts if names), now)

    def accept(self, changed: Changed) -> None:
        self._before = changed.documents


def _named(document: Document) -> str:
    name = str(document.key)
    return f"{name} ({document.origin.beside(name)})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_CHANGES} more" if len(names) > _MAX_CHANGES else ""
    return ", ".join(names[:_MAX_CHANGES]) + more
