"""What a head may look like in HTTP/2: RFC 9113 sections 8.2 and 8.3, and RFC 8441 for extended CONNECT.

A malformed head concerns its own stream only, because HPACK's state is whole by then. The checks are strict where
a looser reading would let two programs disagree about where a message ends or what it asks for.
"""

import re

from policies.attributes import Headers

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$").search
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority", b":protocol"})


class MalformedHead(Exception):
    """Says in a sentence what is wrong with a head."""


def check_request(headers: Headers, *, allow_connect_protocol: bool) -> int | None:
    """Check a request's head; the declared content-length, or None."""
    pseudo = _split(headers, _REQUEST_PSEUDO)
    method = pseudo.get(b":method")
    if method is None or not _TOKEN(method):
        raise MalformedHead("the request has no valid :method")
    if method == b"CONNECT":
        _check_connect(pseudo, allow_connect_protocol)
    else:
        if b":protocol" in pseudo:
            raise MalformedHead(":protocol belongs to CONNECT only")
        if not pseudo.get(b":scheme") or not pseudo.get(b":path"):
            raise MalformedHead("the request has no :scheme or an empty :path")
    host = _single(headers, b"host")
    if host is not None and pseudo.get(b":authority", host) != host:
        raise MalformedHead("host differs from :authority")
    return _content_length(headers)


def check_response(headers: Headers) -> tuple[int, int | None]:
    """Check a response's head; its status and the declared content-length, or None."""
    status = _split(headers, frozenset({b":status"})).get(b":status", b"")
    if len(status) != 3 or not status.isdigit() or status < b"100":
        raise MalformedHead("the response has no valid :status")
    if status == b"101":
        raise MalformedHead("101 does not exist in HTTP/2")
    return int(status), _content_length(headers)


def check_trailers(headers: Headers) -> None:
    _split(headers, frozenset())


def _check_connect(pseudo: dict[bytes, bytes], allow_connect_protocol: bool) -> None:
    if not pseudo.get(b":authority"):
        raise MalformedHead("CONNECT without :authority")
    if b":protocol" in pseudo:
        if not allow_connect_protocol:
            raise MalformedHead("extended CONNECT was not offered")
        if not pseudo.get(b":scheme") or not pseudo.get(b":path"):
            raise MalformedHead("extended CONNECT without :scheme or :path")
    elif b":scheme" in pseudo or b":path" in pseudo:
        raise MalformedHead("CONNECT with :scheme or :path")


def _split(headers: Headers, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    """Check every field; the pseudo headers by name."""
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in headers:
        if name[:1] == b":":
            if regular or name not in allowed or name in pseudo:
                raise MalformedHead(f"{name!r} is unknown, repeated or after a regular field")
            pseudo[name] = value
        else:
            regular = True
            if not _NAME(name):
                raise MalformedHead(f"{name!r} is no lower-case field name")
            if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
                raise MalformedHead(f"{name!r} is specific to an HTTP/1.1 connection")
        if _BAD_VALUE(value):
            raise MalformedHead(f"the value of {name!r} holds NUL, CR or LF, or begins or ends with a blank")
    return pseudo


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
        raise MalformedHead("content-length is no number")
    return int(text)
