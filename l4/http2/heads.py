"""Validity of heads in HTTP/2: RFC 9113 sections 8.2 and 8.3, and RFC 8441 for extended CONNECT.

A malformed head affects only its own stream, because HPACK's state is intact by then. The checks are strict wherever
two programs could otherwise disagree about the end of a message or its target. For example, a space in `:method` or
`:path` would become a different request in HTTP/1.1.
"""

import re
from itertools import chain

from policies.attributes import Headers
from policies.last_look import ONLY_TEXT, remember

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_PATH = re.compile(rb"/[^\x00-\x20\x7f]*").fullmatch
_AUTHORITY = re.compile(rb"[^\x00-\x20\x7f/?#@\\]+").fullmatch
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority", b":protocol"})
_RESPONSE_PSEUDO = frozenset({b":status"})
_SCHEMES = frozenset({b"http", b"https"})
_BLANKS = b" \t"
_known_names: set[bytes] = set()
"""Field names that passed the check before."""
_FIELD_OVERHEAD = 32  # RFC 9113 section 10.5.1


class MalformedHead(Exception):
    """The head is invalid. The message says why."""


class HeadTooLarge(Exception):
    """The head exceeds a limit. `reason` is the limit's name in `connection.Limits`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the head exceeds {reason}")
        self.reason = reason


def check_size(headers: Headers, max_bytes: int, max_fields: int) -> None:
    if len(headers) > max_fields and sum(name[:1] != b":" for name, _ in headers) > max_fields:
        raise HeadTooLarge("max_header_fields")
    if sum(map(len, chain.from_iterable(headers))) + _FIELD_OVERHEAD * len(headers) > max_bytes:
        raise HeadTooLarge("max_header_list_size")


def check_request(headers: Headers, *, allow_connect_protocol: bool) -> int | None:
    """Check a request head. Returns the declared content-length or None. Raises MalformedHead."""
    pseudo = _split(headers, _REQUEST_PSEUDO)
    method = pseudo.get(b":method")
    if method is None or not _TOKEN(method):
        raise MalformedHead("the request has no valid :method")
    if method == b"CONNECT":
        _check_connect(pseudo, allow_connect_protocol)
    else:
        if b":protocol" in pseudo:
            raise MalformedHead(":protocol belongs to CONNECT only")
        _check_target(pseudo, method)
    host = _single(headers, b"host")
    if host is not None and pseudo.get(b":authority", host) != host:
        raise MalformedHead("host differs from :authority")
    return _content_length(headers)


def check_response(headers: Headers) -> tuple[int, int | None]:
    """Check a response head. Returns its status, and the declared content-length or None. Raises MalformedHead."""
    status = _split(headers, _RESPONSE_PSEUDO).get(b":status", b"")
    if len(status) != 3 or not status.isdigit() or status < b"100":
        raise MalformedHead("the response has no valid :status")
    if status == b"101":
        raise MalformedHead("status 101 is not valid in HTTP/2")
    return int(status), _content_length(headers)


def check_trailers(headers: Headers) -> None:
    _split(headers, frozenset())


def _check_connect(pseudo: dict[bytes, bytes], allow_connect_protocol: bool) -> None:
    if not pseudo.get(b":authority"):
        raise MalformedHead("CONNECT without :authority")
    if b":protocol" in pseudo:
        if not allow_connect_protocol:
            raise MalformedHead("extended CONNECT is not enabled")
        _check_target(pseudo, b"CONNECT")
    elif b":scheme" in pseudo or b":path" in pseudo:
        raise MalformedHead("CONNECT with :scheme or :path")


def _check_target(pseudo: dict[bytes, bytes], method: bytes) -> None:
    if pseudo.get(b":scheme") not in _SCHEMES:
        raise MalformedHead(":scheme is missing, or neither http nor https")
    if not _AUTHORITY(pseudo.get(b":authority", b"-")):
        raise MalformedHead(":authority is not a host with an optional port")
    path = pseudo.get(b":path", b"")
    if not _PATH(path) and (path != b"*" or method != b"OPTIONS"):
        raise MalformedHead(":path is missing, does not begin with a slash, or contains a space or control character")


def _split(headers: Headers, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    """Check every field. Returns the pseudo headers by name."""
    pseudo: dict[bytes, bytes] = {}
    values: list[bytes] = []
    regular = False
    for name, value in headers:
        if name[:1] == b":":
            if regular or name not in allowed or name in pseudo:
                raise MalformedHead(f"{name!r} is unknown, repeated or after a regular field")
            pseudo[name] = value
        else:
            regular = True
            if name not in _known_names:
                _check_name(name)
            if name == b"te" and value.lower() != b"trailers":
                raise _connection_specific(name)
        if value.strip(_BLANKS) != value:
            raise MalformedHead(f"the value of {name!r} begins or ends with a blank")
        values.append(value)
    joined = b"".join(values)
    if joined.translate(ONLY_TEXT) != joined:
        raise _control_character(headers)
    return pseudo


def _check_name(name: bytes) -> None:
    """Check a name that is not known to be valid. Raises MalformedHead."""
    if not _NAME(name):
        raise MalformedHead(f"{name!r} is not a lower-case field name")
    if name in _CONNECTION_SPECIFIC:
        raise _connection_specific(name)
    remember(name, _known_names)


def _control_character(headers: Headers) -> MalformedHead:
    """Return the error for headers of which one value contains a control character."""
    name = next((name for name, value in headers if value.translate(ONLY_TEXT) != value), b"")
    return MalformedHead(f"the value of {name!r} contains a control character")


def _connection_specific(name: bytes) -> MalformedHead:
    return MalformedHead(f"{name!r} is a connection-specific field of HTTP/1.1")


def _single(headers: Headers, name: bytes) -> bytes | None:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise MalformedHead(f"{name!r} is repeated")
    return values[0] if values else None


def _content_length(headers: Headers) -> int | None:
    text = _single(headers, b"content-length")
    if text is None:
        return None
    if not text.isdigit() or len(text) > 18:
        raise MalformedHead("content-length is not a number")
    return int(text)
