"""Edits of a source text at the nodes of its syntax tree."""

import ast

from twin.refused import Refused


class Edits:
    """Edits of a text that keep every line in its place."""

    def __init__(self, path: str, source: str) -> None:
        self._path = path
        self._lines = [it.encode() for it in source.splitlines()]  # as syntax trees count columns
        self._end = len(self._lines)

    @property
    def text(self) -> str:
        return "".join(it.decode() + "\n" for it in self._lines)

    def replace(self, node: ast.expr, text: str, before: ast.expr | None = None) -> None:
        """Replace a node, or its beginning up to another node. Of several nodes on a line, edit the last one first."""
        end_line, end = (before.lineno, before.col_offset) if before else (node.end_lineno, node.end_col_offset)
        if end_line != node.lineno:
            raise Refused(self._path, node, f"{ast.unparse(node)} is on several lines; write it on one")
        line = self._lines[node.lineno - 1]
        self._lines[node.lineno - 1] = line[: node.col_offset] + text.encode() + line[end:]

    def insert_argument(self, function: ast.expr, text: str) -> None:
        """Insert text behind the parenthesis that opens a call of this function."""
        number, end = (function.end_lineno or 0) - 1, (function.end_col_offset or 0) + 1
        line = self._lines[number]
        self._lines[number] = line[:end] + text.encode() + line[end:]

    def append(self, node: ast.ClassDef, text: str) -> None:
        """Insert text after the end of a class, where the line must be empty or the end of the file."""
        number = node.end_lineno or 0
        if number == self._end:
            self._lines.append(b"")
        if self._lines[number].strip():
            raise Refused(self._path, node, f"no empty line follows the class {node.name}, which gets a method there")
        self._lines[number] = text.encode()
