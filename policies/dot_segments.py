"""Dot segments of a path (RFC 3986 section 5.2.4)."""

from collections.abc import Sequence


def without_dots(segments: Sequence[bytes]) -> bytes:
    """The path whose slashes these segments stand behind; `..` takes away the one before it, if there is any."""
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
