"""Add line numbers of fields to problems. There may be thousands of problems, so each file is read once."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from l4.config.documents import FileOrigin, Problem
from l4.config.resources import locate_in


class Lines:
    """`texts` holds the content of sources that are not files, by the name in their documents' origin."""

    def __init__(self, texts: dict[str, bytes]) -> None:
        self._lines = {name: text.splitlines(keepends=True) for name, text in texts.items()}

    def located(self, problems: Iterable[Problem]) -> list[Problem]:
        return [self._located(problem) for problem in problems]

    def _located(self, problem: Problem) -> Problem:
        origin = problem.origin
        if not problem.field or not isinstance(origin, FileOrigin) or not origin.line:
            return problem
        lines = self._of(origin.file)
        from_object = map(lines.__getitem__, range(origin.line - 1, len(lines)))
        return replace(problem, origin=locate_in(from_object, origin, problem.field))

    def _of(self, file: str) -> list[bytes]:
        if file not in self._lines:
            try:
                self._lines[file] = Path(file).read_bytes().splitlines(keepends=True)
            except OSError:
                self._lines[file] = []
        return self._lines[file]
