"""Analyze a configuration without running it: problems, and valid parts that are probably not intended.

Reports the problems that a running waypoint would log, for all waypoints in the files, and the findings of the lints.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from l4.config.codes import Level
from l4.config.documents import FileOrigin, Problem
from waypoint.ask.lines import Lines
from waypoint.ask.lint import Subject, lint
from waypoint.ask.load import STDIN, Loaded
from waypoint.ask.suppress import Suppression, annotated

LEVELS = tuple(Level)
"""Most severe first."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """`problems` are sorted by level and origin. `place` says where the objects are."""

    problems: tuple[Problem, ...]
    suppressed: int
    objects: int
    files: int
    place: str
    ignored: Mapping[str, int]

    def reaches(self, threshold: Level) -> bool:
        """Whether any problem is at least this severe."""
        return any(is_at_least(problem, threshold) for problem in self.problems)

    def counts(self) -> Mapping[Level, int]:
        return Counter(level_of(problem) for problem in self.problems)


def analyze(loaded: Loaded, suppressions: Iterable[Suppression] = (), stdin: bytes | None = None) -> Analysis:
    subject = Subject(loaded.documents, loaded.resources, loaded.registry, loaded.snapshots.values())
    found = [*loaded.problems, *lint(subject)]
    unwanted, suppressions = annotated(loaded.documents), tuple(suppressions)
    told = [
        problem
        for problem in found
        if problem.code not in unwanted.get(problem.subject, ()) and not any(it.covers(problem) for it in suppressions)
    ]
    origins = (*(it.origin for it in loaded.documents), *(it.origin for it in loaded.problems))
    lines = Lines({} if stdin is None else {STDIN: stdin})
    return Analysis(
        problems=tuple(sorted(set(lines.located(told)), key=_order)),
        suppressed=len(found) - len(told),
        objects=len(loaded.documents),
        files=len({origin.file for origin in origins if isinstance(origin, FileOrigin)}),
        place=loaded.place,
        ignored=loaded.ignored,
    )


def findings(subject: Subject) -> list[Problem]:
    """Return the lints' findings for a running configuration, without those suppressed by annotations."""
    unwanted = annotated(subject.documents)
    found = [problem for problem in lint(subject) if problem.code not in unwanted.get(problem.subject, ())]
    return Lines({}).located(found)


def level_of(problem: Problem) -> Level:
    return problem.code.level


def is_at_least(problem: Problem, threshold: Level) -> bool:
    return LEVELS.index(level_of(problem)) <= LEVELS.index(threshold)


def _order(problem: Problem) -> tuple[int, Problem]:
    return LEVELS.index(level_of(problem)), problem
