"""Text of a configuration, or of another service's answer, that becomes part of a message: each piece has its type.

A piece is made here and nowhere else, and only from text that can stand in its place: edits, redirects and answers take
these types, so that whoever reads a configuration cannot hand over text that would end a field or a line before its
time. Types exist for the type checker only; on the wire a piece is plain bytes.
RFC 9110 section 5 (fields), RFC 9112 section 3.2 (targets), RFC 3986 section 3.2 (authority).
"""

import re
from collections.abc import Mapping
from typing import NewType

Path = NewType("Path", bytes)
"""Begins with a slash; has no query, no fragment, no backslash, and nothing that isn't visible ASCII."""
Query = NewType("Query", bytes)
"""What stands behind the first `?`."""
Authority = NewType("Authority", bytes)
"""A host in lower case, an IPv6 address in brackets, with or without a port."""
HeaderName = NewType("HeaderName", bytes)
"""In lower case; no pseudo header, and nothing that says where a message goes or ends, or that is for one hop."""
HeaderValue = NewType("HeaderValue", bytes)
"""Without control characters, and without blanks at its ends."""
Substitution = NewType("Substitution", bytes)
"""What an expression puts in place of what it finds: characters of a path, and `\\1` for what its first group found."""

Field = tuple[HeaderName, HeaderValue]

OF_A_HOP = frozenset(
    {b"connection", b"content-length", b"expect", b"host", b"http2-settings", b"keep-alive", b"proxy-connection"}
    | {b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Fields that belong to a connection, or that say where a message goes and where it ends."""
_PATH = re.compile(rb"/[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]*").fullmatch
_QUERY = re.compile(rb"[\x21\x22\x24-\x7e]*").fullmatch
_SUBSTITUTION = re.compile(rb"(?:[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]|\\[0-9])*").fullmatch
_REFERENCE = re.compile(rb"\\([0-9])").findall
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?").fullmatch
_HOST_NAME = rb"[a-z0-9\-_~]+(?:\.[a-z0-9\-_~]+)*"
_AUTHORITY = re.compile(rb"(?:%b|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?" % _HOST_NAME).fullmatch


def path(text: str | bytes) -> Path:
    """Raises ValueError with a sentence, as all of these do."""
    value = _bytes(text)
    if not _PATH(value) or b"%00" in value:
        raise ValueError(
            f"{_shown(value)} is no path: it begins with /, and blanks, ?, #, \\ and what isn't ASCII stand in it as "
            "%20, %3F, %23, %5C and the like"
        )
    return Path(value)


def query(text: str | bytes) -> Query:
    value = _bytes(text)
    if not _QUERY(value):
        raise ValueError(
            f"{_shown(value)} is no query: blanks, # and what isn't ASCII stand in it as %20, %23 and so on"
        )
    return Query(value)


def path_and_query(text: str | bytes) -> tuple[Path, Query | None]:
    """A target; the query is None where there is no `?`."""
    before, question, after = _bytes(text).partition(b"?")
    return path(before), query(after) if question else None


def substitution(text: str | bytes, groups: int) -> Substitution:
    """For an expression with so many groups."""
    value = _bytes(text)
    if not _SUBSTITUTION(value) or b"%00" in value:
        raise ValueError(f"{_shown(value)} can't become part of a path: no blanks, ?, # or \\, but for \\1 to \\9")
    highest = max(map(int, _REFERENCE(value)), default=0)
    if highest > groups:
        raise ValueError(f"{_shown(value)} refers to group {highest}, and the expression has {groups}")
    return Substitution(value)


def authority(text: str | bytes) -> Authority:
    value = _bytes(text).lower()
    match = _AUTHORITY(value)
    if match is None or int(match[1] or 0) > 65535 or len(value) > 260:
        raise ValueError(f"{_shown(value)} is no host such as reviews.example.com or reviews:8080")
    return Authority(value)


def header_name(text: str | bytes) -> HeaderName:
    """A name in any case."""
    value = _bytes(text).lower()
    if not _NAME(value):
        raise ValueError(f"{_shown(value)} is no header name (RFC 9110 5.1)")
    if value in OF_A_HOP:
        raise ValueError(f"{value.decode()} belongs to the connection or to the message, and can't be changed")
    return HeaderName(value)


def header_value(text: str | bytes) -> HeaderValue:
    value = _bytes(text)
    if not _VALUE(value):
        raise ValueError(
            f"{_shown(value)} is no header value: take out control characters, and blanks at its beginning and end"
        )
    return HeaderValue(value)


def field(name: str | bytes, value: str | bytes) -> Field:
    return header_name(name), header_value(value)


def fields(values: Mapping[str, str]) -> tuple[Field, ...]:
    return tuple(field(name, value) for name, value in values.items())


def token(text: str | bytes) -> HeaderValue:
    """A method, or a header's name, as one of a list that is a header's value."""
    value = _bytes(text)
    if not _NAME(value.lower()):
        raise ValueError(f"{_shown(value)} is no name (RFC 9110 5.6.2)")
    return HeaderValue(value)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _shown(value: bytes) -> str:
    return repr(value.decode("utf-8", "replace"))
