"""A file that is read again and again: the documents in it that are written as before are not parsed once more.

Only text between two lines `---` that stood at the same place is known again, and only in a file without problems.
Whatever is not as plain as that, and whatever can't be parsed by itself, is read whole, as `manifest.read` does it.
"""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise

from l4.config import manifest
from l4.config.documents import Document, FileOrigin
from l4.config.manifest import Contents

_MARKER = re.compile(r"^---(?=\s)", re.MULTILINE)
_OTHER_BREAKS = re.compile("[\r\x85\u2028\u2029\ufeff]")
"""By which YAML counts lines, too; and the mark that may begin a file."""
_MAX_NEW = 8
"""More pieces than these are faster read as a whole, for each is read behind as many lines as stand before it."""

Piece = tuple[int, bytes]
"""The number of lines before it, and a digest of its text."""


class Reader:
    def __init__(self, file: str) -> None:
        self._file = file
        self._known: dict[Piece, tuple[Document, ...]] = {}

    def read(self, text: bytes) -> Contents:
        """See `manifest.read`."""
        known, self._known = self._known, {}
        pieces = list(_pieces(text))
        contents = self._again(pieces, known) if known else None
        if contents is None:
            contents = manifest.read(self._file, text)
        if len(pieces) > 1 and not contents.problems:
            self._known = _by_piece([piece for piece, _ in pieces], contents.documents)
        return contents

    def _again(self, pieces: list[tuple[Piece, str]], known: dict[Piece, tuple[Document, ...]]) -> Contents | None:
        """None where it must be read as a whole."""
        if len(pieces) - sum(piece in known for piece, _ in pieces) > _MAX_NEW:
            return None
        documents: list[Document] = []
        for piece, text in pieces:
            if piece in known:
                documents += known[piece]
                continue
            try:
                found = manifest.read(self._file, ("\n" * piece[0] + text).encode())
            except ValueError:
                return None
            if found.problems:
                return None
            documents += found.documents
        return Contents(documents, is_empty=not documents) if documents else None


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


def _by_piece(pieces: list[Piece], documents: list[Document]) -> dict[Piece, tuple[Document, ...]]:
    """Both are in the order of their lines."""
    found: dict[Piece, tuple[Document, ...]] = {}
    rest = list(reversed(documents))
    for piece, after in pairwise([*pieces, None]):
        assert piece is not None
        its = []
        while rest and (after is None or _line(rest[-1]) <= after[0]):
            its.append(rest.pop())
        found[piece] = tuple(its)
    return found


def _line(document: Document) -> int:
    assert isinstance(document.origin, FileOrigin)
    return document.origin.line
