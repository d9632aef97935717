"""Locations of a token in a request: header, query parameter or cookie. Each can find and remove the token.

As in Envoy, a header's token is the first run of base64url characters and dots after the prefix, wherever the prefix
is. Any text that another reader would take for a token is therefore found here.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from policies.attributes import RequestHead

CONCEALED = b"(redacted)"
_TOKEN = re.compile(rb"[A-Za-z0-9_.-]+").search


@dataclass(frozen=True, slots=True)
class HeaderLocation:
    name: bytes
    prefix: bytes = b""

    def find(self, head: RequestHead) -> bytes | None:
        for name, value in head.headers:
            if name == self.name and value:
                start = value.find(self.prefix)
                if start >= 0:
                    match = _TOKEN(value, start + len(self.prefix))
                    return match[0] if match else value
        return None

    def remove(self, head: RequestHead) -> None:
        head.headers[:] = [header for header in head.headers if header[0] != self.name]


@dataclass(frozen=True, slots=True)
class ParamLocation:
    name: bytes

    def find(self, head: RequestHead) -> bytes | None:
        for pair in head.query.split(b"&") if head.query else ():
            if self._is_in(pair):
                return unquote_to_bytes(pair.partition(b"=")[2])
        return None

    def remove(self, head: RequestHead) -> None:
        head.query = b"&".join(pair for pair in head.query.split(b"&") if not self._is_in(pair))
        head.has_query = bool(head.query)

    def concealed(self, query: bytes) -> bytes:
        """Return the query with the token's value redacted."""
        pairs = query.split(b"&")
        return b"&".join(b"%b=%b" % (self.name, CONCEALED) if self._is_in(pair) else pair for pair in pairs)

    def _is_in(self, pair: bytes) -> bool:
        name = pair.partition(b"=")[0]
        return (unquote_to_bytes(name) if b"%" in name else name) == self.name


@dataclass(frozen=True, slots=True)
class CookieLocation:
    """A cookie. HTTP/2 may split cookies over several headers."""

    name: bytes

    def find(self, head: RequestHead) -> bytes | None:
        for name, value in head.headers:
            if name == b"cookie":
                for pair in value.split(b";"):
                    if self._is_in(pair):
                        return pair.partition(b"=")[2].strip(b' \t"')
        return None

    def remove(self, head: RequestHead) -> None:
        headers = []
        for name, value in head.headers:
            if name == b"cookie":
                value = b"; ".join(pair.strip() for pair in value.split(b";") if not self._is_in(pair))
            if value or name != b"cookie":
                headers.append((name, value))
        head.headers[:] = headers

    def _is_in(self, pair: bytes) -> bool:
        return pair.partition(b"=")[0].strip() == self.name


Location: TypeAlias = HeaderLocation | ParamLocation | CookieLocation

DEFAULT_LOCATIONS: tuple[Location, ...] = (
    HeaderLocation(b"authorization", b"Bearer "),
    ParamLocation(b"access_token"),
)
"""RFC 6750, sections 2.1 and 2.3."""
