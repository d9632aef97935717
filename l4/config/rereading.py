"""A file that is read repeatedly: documents whose text has not changed are not parsed again.

A text between two lines `---` at the same place as before is recognized. Other text is read by its form, or else by
itself. If lines cannot be split so plainly, and if there is any error, `manifest.read` reads the whole file.
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
"""Further line breaks of YAML, and the byte order mark."""

Piece = tuple[int, bytes]
"""The number of lines before the piece, and a digest of its text."""


class Reader:
    """Reads one file repeatedly. `forms` is shared with the readers of other files."""

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
        return Contents(documents, is_empty=False) if documents else manifest.read(self._file, text)

    def _by_piece(
        self, pieces: list[tuple[Piece, str]], known: dict[Piece, tuple[Document, ...]]
    ) -> dict[Piece, tuple[Document, ...]] | None:
        """Return the documents of each piece; None if the file must be read as a whole."""
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
        """Return the only document in a text that has a form."""
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
        """Return the documents in a text; None if it has any error."""
        try:
            found = manifest.read(self._file, text.encode())
        except ValueError:
            return None
        if found.problems:
            return None
        return tuple(replace(it, origin=FileOrigin(self._file, line + _line(it))) for it in found.documents)


def _pieces(text: bytes) -> Iterator[tuple[Piece, str]]:
    """Yield the pieces with their texts; none if the ends of lines are not certain."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return
    is_odd = b"\r" in text if text.isascii() else _OTHER_BREAKS.search(decoded) is not None
    if len(text) > manifest.MAX_FILE_BYTES or is_odd:
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
