"""Remove credentials from request heads before anybody else sees them: in recordings and in `waypoint tap`.

Values of headers, cookies and query parameters are replaced by `(redacted)` if their names suggest credentials, or if
the caller names them. Paths stay as they are, because a secret in a path cannot be recognized.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from policies.attributes import Header

MARK = b"(redacted)"
_SECRET = re.compile(
    rb"authoriz|authent|oauth|(?:^|[-_.])auth(?:$|[-_.])|cookie|token|secret|passw|pwd|api[-_]?key|access[-_]?key|"
    rb"credential|signature|session|jwt|saml|assertion|client-cert|^(?:code|key|sig|pass|pin|otp)$",
    re.IGNORECASE,
).search
_WITH_QUERY = frozenset({b"referer", b"x-original-url", b"x-rewrite-url", b"x-forwarded-uri"})
_QUERY = re.compile(rb"[?#].*", re.DOTALL)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def redacted_headers(headers: Iterable[Header], hidden: frozenset[bytes]) -> tuple[tuple[str, str], ...]:
    """Return headers as text without secrets. `hidden` are further names of secrets, in lower case."""
    return tuple((name.decode("latin-1"), _value((name, value), hidden).decode("latin-1")) for name, value in headers)


def redacted_target(target: bytes, hidden: frozenset[bytes]) -> bytes:
    """Return path and query without the values of secret parameters."""
    path, _, query = target.partition(b"?")
    if not query:
        return target
    return b"%b?%b" % (path, b"&".join(_parameter(pair, hidden) for pair in query.split(b"&")))


def _value(header: Header, hidden: frozenset[bytes]) -> bytes:
    name, value = header
    if name in hidden or _is_secret(name):
        return MARK
    return _QUERY.sub(b"?" + MARK, value) if name in _WITH_QUERY else value


def _parameter(pair: bytes, hidden: frozenset[bytes]) -> bytes:
    name, equals, _ = pair.partition(b"=")
    plain = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), name)
    is_hidden = plain in hidden or plain.lower() in hidden or _is_secret(plain)
    return b"%b=%b" % (name, MARK) if equals and is_hidden else pair


@lru_cache(maxsize=1024)
def _is_secret(name: bytes) -> bool:
    return _SECRET(name) is not None
