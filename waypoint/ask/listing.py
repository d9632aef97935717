"""Format problems as text, JSON or YAML, and list all codes.

Level, code and message have the same names as in `istioctl analyze -o json`, so that programs can read both.
"""

import json
from collections.abc import Callable, Iterable

import yaml

from l4.config.codes import Level
from l4.config.documents import Problem
from waypoint.ask.analyze import Analysis, level_of
from waypoint.ask.codes import CODES

Paint = Callable[[str, Level], str]


def log_lines(problems: Iterable[Problem], paint: Paint) -> Iterable[str]:
    """Yield one line per problem. `paint` may color the level."""
    for problem in problems:
        level = level_of(problem)
        place = f"{problem.subject} {problem.field}".rstrip()
        origin = problem.origin.beside(problem.subject)
        yield f"{paint(level, level)} [{problem.code}] ({place}) {origin} {problem.sentence}"


def as_json(problems: Iterable[Problem]) -> str:
    return json.dumps(_plain(problems), indent=2, ensure_ascii=False)


def as_yaml(problems: Iterable[Problem]) -> str:
    return yaml.safe_dump(_plain(problems), sort_keys=False, allow_unicode=True, width=160).rstrip("\n")


def _plain(problems: Iterable[Problem]) -> list[dict[str, str]]:
    return [
        {
            "code": str(problem.code),
            "istioCode": problem.code.ist,
            "name": problem.code.label,
            "level": str(level_of(problem)),
            "origin": problem.subject,
            "field": problem.field,
            "message": problem.sentence,
            "reference": str(problem.origin),
        }
        for problem in problems
    ]


def summary(analysis: Analysis) -> str:
    counts = analysis.counts()
    parts = [_counted(counts.get(level, 0), level.lower()) for level in Level if counts.get(level, 0)]
    told = ", ".join(parts) or "✔ no problems"
    place = f"of {_counted(analysis.files, 'file')}" if analysis.files else analysis.place
    text = f"{told} in {_counted(analysis.objects, 'object')} {place}"
    if analysis.suppressed:
        text += f"; {analysis.suppressed} suppressed"
    if analysis.ignored:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(analysis.ignored.items()))
        text += f"; kinds that waypoints ignore: {kinds}"
    return text + "."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def code_table() -> str:
    """Return a table of all codes for a terminal."""
    rows = [("CODE", "ISTIO", "LEVEL", "NAME", "MEANING")]
    rows += [(it, it.ist or "-", it.level, it.label, it.meaning) for it in CODES]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join((*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4])) for row in rows
    )
