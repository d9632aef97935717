"""A file that is read again and again: the documents in it that are written as before are not parsed once more.

Text between two lines `---` that stood at the same place is known again; other text is read by its form, or else by
itself. Where lines can't be told apart so plainly, and where anything is wrong, `manifest.read` reads the file whole.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from l4.config import manifest
from l4.config.documents import Document, FileOrigin
from l4.config.forms import Forms
from l4.config.manifest import Contents

_MARKER = re.compile(r"^---(?=\s)", re.MULTILINE)
_OTHER_BREAKS = re.compile("[\r\x85\u2028\u2029\ufeff]")
"""By which YAML counts lines, too; and the mark that may begin a file."""

Piece = tuple[int, bytes]
"""The number of lines before it, and a digest of its text."""


class Reader:
    """`forms` are those that documents have, of this file and of others."""

    def __init__(self, file: str, forms: Forms) -> None:
        self._file = file
        self._forms = forms
        self._known: dict[Piece, tuple[Document, ...]] = {}

    def read(self, text: bytes) -> Contents:
        """See `manifest.read`."""
        known, self._known = self._known, {}
        pieces = list(_pieces(text))
        found = self._by_piece(pieces, known)
        if found is None:
            return manifest.read(self._file, text)
        if len(pieces) > 1:
            self._known = found
        documents = [document for its in found.values() for document in its]
        return Contents(documents, is_empty=not documents)

    def _by_piece(
        self, pieces: list[tuple[Piece, str]], known: dict[Piece, tuple[Document, ...]]
    ) -> dict[Piece, tuple[Document, ...]] | None:
        """None where it must be read as a whole."""
        found: dict[Piece, tuple[Document, ...]] = {}
        for piece, text in pieces:
            its = known.get(piece) if text.strip() else ()
            if its is None:
                its = self._alike(piece[0], text)
            if its is None:
                its = self._alone(piece[0], text)
            if its is None:
                return None
            found[piece] = its
        return found or None

    def _alike(self, line: int, text: str) -> tuple[Document, ...] | None:
        """The one document in a text, if it has a form."""
        filled = self._forms.read(text)
        if filled is None:
            return None
        content, its = filled
        try:
            key = manifest.key_of(content)
        except ValueError:
            return None
        if key.kind.endswith("List"):
            return None
        return (Document(key, content, FileOrigin(self._file, line + its + 1)),)

    def _alone(self, line: int, text: str) -> tuple[Document, ...] | None:
        """The documents in a text; None where anything is wrong with it."""
        try:
            found = manifest.read(self._file, text.encode())
        except ValueError:
            return None
        if found.problems:
            return None
        return tuple(replace(it, origin=FileOrigin(self._file, line + _line(it))) for it in found.documents)


def _pieces(text: bytes) -> Iterator[tuple[Piece, str]]:
    """With their texts; none where it can't be told where lines end."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return
    if len(text) > manifest.MAX_FILE_BYTES or _OTHER_BREAKS.search(decoded):
        return
    places = [0, *(it.start() for it in _MARKER.finditer(decoded) if it.start()), len(decoded)]
    line = 0
    for begin, end in pairwise(places):
        piece = decoded[begin:end]
        yield (line, hashlib.blake2b(piece.encode(), digest_size=16).digest()), piece
        line += piece.count("\n")


def _line(document: Document) -> int:
    assert isinstance(document.origin, FileOrigin)
    return document.origin.line
