"""Filter trailers. Many programs merge trailers into the head (CGI, gRPC bridges, logs), but trailers arrive after all
decisions. Fields that a decision could depend on, or that only proxies set, are therefore removed (RFC 9110 section
6.5.1).

What remains is what trailers are for: digests, timings, signatures, and gRPC status and metadata. An underscore counts
as a hyphen, as in CGI and its successors.
"""

from collections.abc import Container

from policies.attributes import Header, Headers
from waypoint.errors import BadRequest
from waypoint.http.settings import HttpSettings

# Framing, content, credentials, routing, and headers that only proxies set.
_NEVER = frozenset(
    {b"transfer-encoding", b"content-length", b"host", b"connection", b"te", b"trailer", b"upgrade", b"keep-alive"}
    | {b"content-type", b"content-encoding", b"content-range", b"content-language", b"content-location"}
    | {b"content-disposition", b"cache-control", b"pragma", b"expect", b"max-forwards", b"range", b"http2-settings"}
    | {b"authorization", b"www-authenticate", b"cookie", b"set-cookie", b"location", b"server", b"via", b"forwarded"}
)
_NEVER_BEGINS = (b":", b"proxy-", b"x-envoy-", b"x-forwarded-", b"access-control-")
# Request headers about the client. Response metadata may legitimately repeat them.
_NEVER_OF_REQUESTS = frozenset(
    {b"origin", b"referer", b"user-agent", b"baggage", b"traceparent", b"tracestate", b"x-request-id", b"x-real-ip"}
)
_NEVER_BEGINS_OF_REQUESTS = (b"if-", b"sec-", b"x-istio-", b"x-b3-")


def request_trailers(fields: list[Header], settings: HttpSettings) -> Headers:
    """Return the trailers to forward. Raises BadRequest if a setting rejects underscores."""
    kept = []
    for name, value in response_trailers(fields):
        dashed = name.replace(b"_", b"-")
        if dashed != name and settings.headers_with_underscores != "keep":
            if settings.headers_with_underscores == "reject":
                raise BadRequest("http1.unexpected_underscore", limit="headers_with_underscores")
        elif dashed not in _NEVER_OF_REQUESTS and not dashed.startswith(_NEVER_BEGINS_OF_REQUESTS):
            kept.append((name, value))
    return kept


def response_trailers(fields: list[Header]) -> Headers:
    trailers = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    return [it for it in trailers if not _is_of_heads(it[0].replace(b"_", b"-"))]


def without(trailers: Headers, names: Container[bytes]) -> Headers:
    """Return the trailers that have none of these names."""
    return [it for it in trailers if it[0] not in names and it[0].replace(b"_", b"-") not in names]


def _is_of_heads(name: bytes) -> bool:
    return name in _NEVER or name.startswith(_NEVER_BEGINS)
