"""Log lines about the configuration of a running program: each problem once, its resolution, and changes."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from l4.config.codes import Level
from l4.config.difference import Difference
from l4.config.documents import Document, ObjectKey, Problem

_LEVELS = {Level.ERROR: logging.WARNING, Level.WARNING: logging.WARNING, Level.INFO: logging.INFO}
_MAX_CHANGES = 5


class Telling:
    """Logs problems. A problem in another line, or in another version of its object, is the same problem.

    A resolved problem is logged again if it comes back. `extra` is passed to the log call of each line.
    """

    def __init__(self, log: logging.Logger, extra: Mapping[str, object] | None = None) -> None:
        self._log = log
        self._extra = extra
        self._told: dict[tuple[object, ...], Problem] = {}
        self._last: Collection[Problem] | None = None

    def tell(self, problems: Collection[Problem]) -> None:
        """Log new and resolved problems. `problems` are all current ones."""
        if problems is self._last:
            return
        self._last = problems
        now = {_same(problem): problem for problem in sorted(problems)}
        for same, problem in self._told.items():
            if same not in now:
                self._log.info("resolved: %s", problem, extra=self._extra)
        for same, problem in now.items():
            if same not in self._told:
                self._log.log(_LEVELS[problem.code.level], "%s", problem, extra=self._extra)
        self._told = now


def _same(problem: Problem) -> tuple[object, ...]:
    """Return the key by which two problems count as the same one."""
    return problem.origin.place, problem.subject, problem.field, problem.sentence, problem.code


@dataclass(slots=True)
class _Pending:
    """A changed object. `was_there`: it existed when changes were last accepted, with `content` if that is known."""

    was_there: bool
    content: Mapping[str, Any] | None
    now: Document | None = None


class ChangeWords:
    """Describes the objects that were added, changed or removed since changes were last accepted."""

    def __init__(self) -> None:
        self._is_first = True
        self._pending: dict[ObjectKey, _Pending] = {}

    def note(self, found: Difference) -> None:
        """Note what changed since the last call. The first call accepts everything."""
        if self._is_first:
            return
        for old, new in found.changed:
            was = _Pending(old is not None, old.content if old is not None else None)
            self._pending.setdefault(new.key, was).now = new
        for key in found.gone:
            self._pending.setdefault(key, _Pending(True, None)).now = None

    def words(self) -> str:
        """Return the description, empty if nothing changed."""
        # pods last: they are many
        its = sorted(self._pending.items(), key=lambda item: item[0].kind == "Pod")
        present = [(it, it.now) for _, it in its if it.now is not None]
        new = [_named(now) for it, now in present if not it.was_there]
        changed = [_named(now) for it, now in present if it.was_there and it.content != now.content]
        gone = [str(key) for key, it in its if it.was_there and it.now is None]
        parts = (("new", new), ("changed", changed), ("gone", gone))
        return "; ".join(f"{word}: {_listed(names)}" for word, names in parts if names)

    def accept(self) -> None:
        self._is_first = False
        self._pending.clear()


def _named(document: Document) -> str:
    name = str(document.key)
    return f"{name} ({document.origin.beside(name)})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_CHANGES} more" if len(names) > _MAX_CHANGES else ""
    return ", ".join(names[:_MAX_CHANGES]) + more
