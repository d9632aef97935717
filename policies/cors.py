"""HTTPRoute's CORS: which pages of other origins a browser may let read the answers.

Follows the Fetch standard and Envoy's filter. A preflight is answered here, and one of an origin that is not allowed is
allowed nothing; an allowed origin is named in the response to an actual request, whatever the endpoint said of it.
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
    """`https://example.com`, `*`, or `https://*.example.com`, where the star is one or more labels."""

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
    """What a preflight asks to be allowed; None for any other request."""
    return head.get(b"access-control-request-method") if head.method == b"OPTIONS" else None


@dataclass(frozen=True, slots=True)
class Cors:
    """A `*` among methods or headers stands for what the client asks for: with credentials, browsers take no star."""

    origins: tuple[OriginMatch, ...]
    methods: tuple[HeaderValue, ...] = ()
    headers: tuple[HeaderValue, ...] = ()
    expose: tuple[HeaderValue, ...] = ()
    max_age_seconds: int | None = 5
    has_credentials: bool = False
    forwards_unmatched: bool = True
    """Whether the endpoint answers the preflights of origins that are not allowed."""

    def origin_of(self, head: RequestHead) -> bytes | None:
        """The origin to name in the response; None when there is none, or none that may read it."""
        origin = head.get(b"origin")
        return origin if origin is not None and any(it.accepts(origin) for it in self.origins) else None

    def preflight(self, head: RequestHead, origin: bytes) -> Headers | None:
        """The headers that answer a preflight of an allowed origin; None for any other request."""
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
        """The response's headers, as a page of that origin may see them."""
        marked = [header for header in headers if header[0] not in _OWN]
        marked.extend(self._allow(origin))
        if self.expose:
            marked.append((b"access-control-expose-headers", b", ".join(self.expose)))
        return marked

    def _allow(self, origin: bytes) -> Headers:
        """A star is said only where every page may read the answer and no credentials are sent along."""
        is_public = not self.has_credentials and any(it.value == b"*" for it in self.origins)
        allow: Headers = [(b"access-control-allow-origin", b"*" if is_public else origin)]
        if self.has_credentials:
            allow.append((b"access-control-allow-credentials", b"true"))
        if not is_public:
            allow.append((b"vary", b"origin"))
        return allow
