"""Final check of a head before it is written, for every HTTP version and every author of the head.

A head must not contain anything that ends a field, a line or the head early, or that repeats the framing. Readers of
configuration and of other services' answers already reject such text and report where it is. A head that fails here
shows a gap in one of them, and only its own message fails. The check is cheap: known names are cached, and one pass
over the values finds control characters.
"""

import re

from policies.attributes import Headers, RepeatedHeaders

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_OF_THE_FRAMING = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"keep-alive", b"proxy-connection"}
    | {b"http2-settings"}
)
NOTHING: frozenset[bytes] = frozenset()
IN_RESPONSES = frozenset({b"host"})
"""Framing fields allowed in responses. Some servers repeat the request's `host`, which frames nothing there."""
IN_BODILESS_RESPONSES = IN_RESPONSES | {b"content-length"}
"""Framing fields allowed in HEAD and 304 responses, where `content-length` only describes the body."""
# `bytes.translate` by these tables returns the same object if every byte is allowed. To delete the allowed bytes costs
# 2,000 instructions more, because it builds a table in each call.
_ONLY_VISIBLE = bytes(byte if 0x21 <= byte <= 0x7E else 0x21 for byte in range(256))
ONLY_TEXT = bytes(byte if byte == 0x09 or 0x20 <= byte != 0x7F else 0x20 for byte in range(256))
_MAX_KNOWN = 1024
_MAX_KNOWN_BYTES = 256  # of each
KNOWN_NAMES: dict[bytes, bytes] = {}
"""Field names that passed the check before, with the beginning of their lines in HTTP/1.1."""
_known_words: set[bytes] = set()
"""Methods and authorities that passed the check before."""


class Unwritable(ValueError):
    """The head must not be written. The message says why."""


def check_fields(headers: Headers, allowed: frozenset[bytes] = NOTHING) -> None:
    """Check header names and values. `allowed` names framing fields that may appear. Raises Unwritable."""
    parts: list[bytes] = []
    known: dict[bytes, bytes] = KNOWN_NAMES
    for name, value in headers:
        if name not in known:
            _check_name(name, allowed)
        parts.append(value)
    values = b"".join(parts)
    if values.translate(ONLY_TEXT) != values:
        raise _control_character(headers)


def check_head(headers: Headers, repeated: RepeatedHeaders | None, allowed: frozenset[bytes] = NOTHING) -> None:
    """The same as `check_fields`. Headers that are repeated are checked once."""
    if repeated is not None and headers[: len(repeated.headers)] == repeated.headers:
        if repeated.checked is not allowed:
            check_fields(repeated.headers, allowed)
            repeated.checked = allowed
        headers = headers[len(repeated.headers) :]
    check_fields(headers, allowed)


def check_target(method: bytes, target: bytes, authority: bytes) -> None:
    """Check a request's method, target and authority. Raises Unwritable."""
    if method not in _known_words or authority not in _known_words:
        for word in (method, authority):
            if not word or word.translate(_ONLY_VISIBLE) != word:
                raise Unwritable(
                    f"the method or authority {word!r} is empty or contains characters other than visible ASCII"
                )
            remember(word, _known_words)
    if not target.startswith(b"/") and target != b"*":
        raise Unwritable("the target does not begin with a slash")
    if target.translate(_ONLY_VISIBLE) != target:
        raise Unwritable("the target contains a space, a control character or a non-ASCII character")


def _check_name(name: bytes, allowed: frozenset[bytes]) -> None:
    """Check a name that is not in KNOWN_NAMES. Raises Unwritable."""
    if name in _OF_THE_FRAMING:
        if name in allowed:
            return
        raise Unwritable(f"{name!r} is reserved for the framing of the message")
    if not _NAME(name):
        raise Unwritable(f"{name!r} is not a lower-case field name")
    if may_remember(name, KNOWN_NAMES):
        KNOWN_NAMES[name] = line_of(name)


def _control_character(headers: Headers) -> Unwritable:
    """Return the error for headers of which one value contains a control character."""
    name = next((name for name, value in headers if value.translate(ONLY_TEXT) != value), b"")
    return Unwritable(f"the value of {name!r} contains a control character")


def line_of(name: bytes) -> bytes:
    """Return the beginning of a field's line in HTTP/1.1, after the end of the line before it."""
    return b"\r\n%b: " % name


def remember(text: bytes, known: set[bytes]) -> None:
    """Cache a checked word."""
    if may_remember(text, known):
        known.add(text)


def may_remember(text: bytes, known: set[bytes] | dict[bytes, bytes]) -> bool:
    """Whether to cache a checked word. Peers choose the words, so their number and length are limited."""
    if len(text) > _MAX_KNOWN_BYTES:
        return False
    if len(known) >= _MAX_KNOWN:
        known.clear()
    return True
