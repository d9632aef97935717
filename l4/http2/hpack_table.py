"""Shared by HPACK's encoder and decoder: the static table (RFC 7541 appendix A), sizes, and never-indexed fields."""

from typing import Final

from policies.attributes import Header

DEFAULT_SIZE: Final = 4096
"""Size of the dynamic table in bytes. We neither offer nor use more."""
FIELD_OVERHEAD: Final = 32
"""Bytes that a field counts in addition to its name and value (section 4.1)."""


class NeverIndexed(tuple[bytes, bytes]):
    """A field that was received as never-indexed and must be forwarded as such (section 6.2.3)."""

    __slots__ = ()


_FIELDS = b"""\
:authority
:method=GET
:method=POST
:path=/
:path=/index.html
:scheme=http
:scheme=https
:status=200
:status=204
:status=206
:status=304
:status=400
:status=404
:status=500
accept-charset
accept-encoding=gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


def _field(line: bytes) -> Header:
    name, _, value = line[1:].partition(b"=")
    return line[:1] + name, value


STATIC: Final = ((b"", b""), *map(_field, _FIELDS.splitlines()))
"""Fields by index, starting at 1."""
STATIC_COUNT: Final = len(STATIC) - 1
