"""The last look at a head before it becomes bytes, whichever version of HTTP writes it and whoever made it.

Nothing in a head may end a field, a line or the head before its time, or say a second time what the framing says. What
reads a configuration, or another service's answer, refuses such text and tells where it stands; what gets here in spite
of that is a gap in one of them, and costs its message alone. It must cost next to nothing where all is well: names are
known from heads before, and one pass over the bytes finds control characters.
"""

import re
from operator import itemgetter

from policies.attributes import Headers

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_OF_THE_FRAMING = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"keep-alive", b"proxy-connection"}
    | {b"http2-settings"}
)
NOTHING: frozenset[bytes] = frozenset()
IN_RESPONSES = frozenset({b"host"})
"""Frames nothing in a response, where some servers repeat the request's."""
IN_BODILESS_RESPONSES = IN_RESPONSES | {b"content-length"}
"""What a body's length would be may stand there (HEAD, 304)."""
_VISIBLE = bytes(range(0x21, 0x7F))
TEXT = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
"""What values are made of."""
_MAX_KNOWN = 1024
_MAX_KNOWN_BYTES = 256  # of each
_name_of, _value_of = itemgetter(0), itemgetter(1)
KNOWN_NAMES: set[bytes] = set()
"""Of fields, that were looked at and may be written."""
_known_words: set[bytes] = set()
"""The same for methods and authorities."""


class Unwritable(ValueError):
    """Says in a sentence what must not be written."""


def check_fields(headers: Headers, allowed: frozenset[bytes] = NOTHING) -> None:
    """`allowed` are names of the framing that may stand here all the same. Raises Unwritable."""
    if not KNOWN_NAMES.issuperset(map(_name_of, headers)):
        for name, _ in headers:
            if name not in KNOWN_NAMES:
                check_name(name, allowed)
    if b"".join(map(_value_of, headers)).translate(None, TEXT):
        raise control_character(headers)


def check_target(method: bytes, target: bytes, authority: bytes) -> None:
    """Raises Unwritable."""
    if method not in _known_words or authority not in _known_words:
        for word in (method, authority):
            if not word or word.translate(None, _VISIBLE):
                raise Unwritable(f"{word!r}, the method or the authority, is empty or holds what isn't visible ASCII")
            _remember(word, _known_words)
    if target[:1] != b"/" and target != b"*":
        raise Unwritable("the target does not begin with a slash")
    if target.translate(None, _VISIBLE):
        raise Unwritable("the target holds a blank, a control character or what isn't ASCII")


def check_name(name: bytes, allowed: frozenset[bytes] = NOTHING) -> None:
    """One that isn't known yet. Raises Unwritable."""
    if name in _OF_THE_FRAMING:
        if name in allowed:
            return
        raise Unwritable(f"{name!r} is written once, by what frames the message")
    if not _NAME(name):
        raise Unwritable(f"{name!r} is no field name in lower case")
    _remember(name, KNOWN_NAMES)


def control_character(headers: Headers) -> Unwritable:
    """For fields of which one holds one."""
    name = next((name for name, value in headers if value.translate(None, TEXT)), b"")
    return Unwritable(f"the value of {name!r} holds a control character")


def _remember(text: bytes, known: set[bytes]) -> None:
    """Peers choose them: no more than so many, and none that is long."""
    if len(text) <= _MAX_KNOWN_BYTES:
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known.add(text)
