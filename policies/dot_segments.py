"""Remove dot segments from a path (RFC 3986 section 5.2.4)."""

from collections.abc import Sequence


def without_dots(segments: Sequence[bytes]) -> bytes:
    """Return the path made of `segments`, each after a slash. `..` removes the segment before it, if any."""
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments and segments[-1] in {b".", b".."}:
        kept.append(b"")
    return b"/" + b"/".join(kept)
