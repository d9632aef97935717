"""HTTPRoute's CORS filter: which web pages of other origins may read the responses.

Follows the Fetch standard and Envoy's filter. Preflights are answered here. A preflight from an origin that is not
allowed gets a response without CORS headers. The response to an actual request names the origin if it is allowed,
whatever CORS headers the endpoint sent.
https://gateway-api.sigs.k8s.io/reference/spec/#httpcorsfilter
"""

import re
from dataclasses import dataclass

from policies.attributes import Headers, RequestHead
from policies.matching import StringMatch
from policies.wire_text import HeaderValue

_OWN = frozenset(
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-expose-headers",
    }
)


@dataclass(frozen=True, slots=True)
class OriginPattern:
    """`https://example.com`, `*`, or `https://*.example.com`, where the star stands for one or more labels."""

    value: bytes

    def accepts(self, origin: bytes) -> bool:
        origin = origin.lower()
        if self.value in {b"*", origin}:
            return True
        before, star, after = self.value.partition(b"*")
        if not star or not origin.startswith(before) or not origin.endswith(after):
            return False
        return bool(_LABELS(origin[len(before) : len(origin) - len(after)]))


_LABELS = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*").fullmatch


OriginMatch = OriginPattern | StringMatch


def preflight_method(head: RequestHead) -> bytes | None:
    """Return the method that a preflight asks permission for, or None if this is not a preflight."""
    return head.get(b"access-control-request-method") if head.method == b"OPTIONS" else None


@dataclass(frozen=True, slots=True)
class Cors:
    """A CORS configuration.

    A `*` in `methods` or `headers` is replaced by what the client asks for, because browsers reject `*` with
    credentials.
    """

    origins: tuple[OriginMatch, ...]
    methods: tuple[HeaderValue, ...] = ()
    headers: tuple[HeaderValue, ...] = ()
    expose: tuple[HeaderValue, ...] = ()
    max_age_seconds: int | None = 5
    has_credentials: bool = False
    forwards_unmatched: bool = True
    """Whether preflights from origins that are not allowed are forwarded to the endpoint."""

    def origin_of(self, head: RequestHead) -> bytes | None:
        """Return the request's origin if it is allowed, or None."""
        origin = head.get(b"origin")
        return origin if origin is not None and any(it.accepts(origin) for it in self.origins) else None

    def preflight(self, head: RequestHead, origin: bytes) -> Headers | None:
        """Return the headers that answer a preflight from an allowed origin, or None if this is not a preflight."""
        method = preflight_method(head)
        if method is None:
            return None
        answer = self._allow(origin)
        methods = (method,) if b"*" in self.methods else self.methods
        if methods:
            answer.append((b"access-control-allow-methods", b", ".join(methods)))
        asked = head.get(b"access-control-request-headers")
        allowed = (asked or b"") if b"*" in self.headers else b", ".join(self.headers)
        if allowed:
            answer.append((b"access-control-allow-headers", allowed))
        if self.max_age_seconds is not None:
            answer.append((b"access-control-max-age", b"%d" % self.max_age_seconds))
        if self.expose:
            answer.append((b"access-control-expose-headers", b", ".join(self.expose)))
        return answer

    def mark(self, headers: Headers, origin: bytes) -> Headers:
        """Return the response headers with CORS headers for an allowed origin."""
        marked = [header for header in headers if header[0] not in _OWN]
        marked.extend(self._allow(origin))
        if self.expose:
            marked.append((b"access-control-expose-headers", b", ".join(self.expose)))
        return marked

    def _allow(self, origin: bytes) -> Headers:
        """Send `*` only if every origin may read the response and no credentials are allowed."""
        is_public = not self.has_credentials and any(it.value == b"*" for it in self.origins)
        allow: Headers = [(b"access-control-allow-origin", b"*" if is_public else origin)]
        if self.has_credentials:
            allow.append((b"access-control-allow-credentials", b"true"))
        if not is_public:
            allow.append((b"vary", b"origin"))
        return allow
