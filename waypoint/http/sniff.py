"""Detect the protocol of an inner connection from its first bytes, for ports that do not declare one.

Like Envoy's http_inspector, looks for the HTTP/2 preface or a complete HTTP/1 request line. A connection is opaque as
soon as its bytes can be neither.
"""

import re
from enum import Enum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 section 3.4
_MAX_LINE = 8192

_METHOD = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}"
_REQUEST_LINE = re.compile(_METHOD + rb" [\x21-\x7e\x80-\xff]+ HTTP/1\.[0-9]\r?").fullmatch
_BEGINNING = re.compile(
    _METHOD + rb"(?: [\x21-\x7e\x80-\xff]*(?: (?:H|HT|HTT|HTTP|HTTP/|HTTP/1|HTTP/1\.|HTTP/1\.[0-9]\r?)?)?)?"
).fullmatch


class Sniffed(Enum):
    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    OPAQUE = "opaque"


def sniff(data: bytes) -> Sniffed | None:
    """Return the protocol, or None if more bytes are needed. A request line is enough."""
    if is_http2(data) is not False:
        return Sniffed.HTTP2 if is_http2(data) else None
    line, end, _ = data.partition(b"\n")
    if end:
        return Sniffed.HTTP1 if _REQUEST_LINE(line) else Sniffed.OPAQUE
    return None if len(line) <= _MAX_LINE and _BEGINNING(line) else Sniffed.OPAQUE


def is_http2(data: bytes) -> bool | None:
    """Whether the data begins with the HTTP/2 preface. None if more bytes are needed."""
    if len(data) >= len(PREFACE):
        return data.startswith(PREFACE)
    return None if PREFACE.startswith(data) else False
