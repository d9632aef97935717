"""Validated pieces of messages, made from configuration or from another service's answer. Each piece has its own type.

Only this module creates the pieces, and only from text that is valid in their place. Edits, redirects and responses
accept only these types, so that text which would end a field or a line early cannot reach a message. The types exist
for the type checker; at run time a piece is plain bytes. RFC 9110 section 5 (fields), RFC 9112 section 3.2 (targets),
RFC 3986 section 3.2 (authority).
"""

import re
from collections.abc import Mapping
from typing import NewType

Path = NewType("Path", bytes)
"""Begins with a slash. Contains only visible ASCII, without query, fragment and backslash."""
Query = NewType("Query", bytes)
"""The part after the first `?`."""
Authority = NewType("Authority", bytes)
"""A lower-case host with an optional port. IPv6 addresses are in brackets."""
HeaderName = NewType("HeaderName", bytes)
"""A lower-case name. Not a pseudo header, not a hop-by-hop header, and not a header of the framing."""
HeaderValue = NewType("HeaderValue", bytes)
"""A value without control characters and without leading or trailing blanks."""
Substitution = NewType("Substitution", bytes)
"""The replacement for a regular expression's match: path characters, and `\\1` to `\\9` for groups."""

Field = tuple[HeaderName, HeaderValue]

OF_A_HOP = frozenset(
    {b"connection", b"content-length", b"expect", b"host", b"http2-settings", b"keep-alive", b"proxy-connection"}
    | {b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Hop-by-hop fields, and fields that set a message's destination or framing."""
_PATH = re.compile(rb"/[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]*").fullmatch
_QUERY = re.compile(rb"[\x21\x22\x24-\x7e]*").fullmatch
_SUBSTITUTION = re.compile(rb"(?:[\x21\x22\x24-\x3e\x40-\x5b\x5d-\x7e]|\\[0-9])*").fullmatch
_REFERENCE = re.compile(rb"\\([0-9])").findall
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?").fullmatch
_HOST_NAME = rb"[a-z0-9\-_~]+(?:\.[a-z0-9\-_~]+)*"
_AUTHORITY = re.compile(rb"(?:%b|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?" % _HOST_NAME).fullmatch


def path(text: str | bytes) -> Path:
    """Validate a path. Raises ValueError with an explanation, like all functions here."""
    value = _bytes(text)
    if not _PATH(value) or b"%00" in value:
        raise ValueError(
            f"{_shown(value)} is not a path: it must begin with /, and spaces, ?, #, \\ and non-ASCII characters must "
            "be escaped as %20, %3F, %23, %5C and so on"
        )
    return Path(value)


def query(text: str | bytes) -> Query:
    value = _bytes(text)
    if not _QUERY(value):
        raise ValueError(
            f"{_shown(value)} is not a query: spaces, # and non-ASCII characters must be escaped as %20, %23 and so on"
        )
    return Query(value)


def path_and_query(text: str | bytes) -> tuple[Path, Query | None]:
    """Split and validate a target. The query is None if there is no `?`."""
    before, question, after = _bytes(text).partition(b"?")
    return path(before), query(after) if question else None


def substitution(text: str | bytes, groups: int) -> Substitution:
    """Validate the substitution for an expression with `groups` groups."""
    value = _bytes(text)
    if not _SUBSTITUTION(value) or b"%00" in value:
        raise ValueError(
            f"{_shown(value)} is not valid in a path: spaces, ?, # and \\ are not allowed, except \\1 to \\9"
        )
    highest = max(map(int, _REFERENCE(value)), default=0)
    if highest > groups:
        raise ValueError(f"{_shown(value)} refers to group {highest}, but the expression has {groups}")
    return Substitution(value)


def authority(text: str | bytes) -> Authority:
    value = _bytes(text).lower()
    match = _AUTHORITY(value)
    if match is None or int(match[1] or 0) > 65535 or len(value) > 260:
        raise ValueError(f"{_shown(value)} is not a host such as reviews.example.com or reviews:8080")
    return Authority(value)


def header_name(text: str | bytes) -> HeaderName:
    """Validate a name and convert it to lower case."""
    value = _bytes(text).lower()
    if not _NAME(value):
        raise ValueError(f"{_shown(value)} is not a header name (RFC 9110 5.1)")
    if value in OF_A_HOP:
        raise ValueError(f"{value.decode()} belongs to the connection or to the framing, and cannot be changed")
    return HeaderName(value)


def header_value(text: str | bytes) -> HeaderValue:
    value = _bytes(text)
    if not _VALUE(value):
        raise ValueError(
            f"{_shown(value)} is not a header value: remove control characters and leading and trailing spaces"
        )
    return HeaderValue(value)


def field(name: str | bytes, value: str | bytes) -> Field:
    return header_name(name), header_value(value)


def fields(values: Mapping[str, str]) -> tuple[Field, ...]:
    return tuple(field(name, value) for name, value in values.items())


def token(text: str | bytes) -> HeaderValue:
    """Validate a method or header name that is part of a comma-separated header value."""
    value = _bytes(text)
    if not _NAME(value.lower()):
        raise ValueError(f"{_shown(value)} is not a token (RFC 9110 5.6.2)")
    return HeaderValue(value)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _shown(value: bytes) -> str:
    return repr(value.decode("utf-8", "replace"))
