"""What may come after a body. Many programs read a trailer into the head (CGI, gRPC bridges, logs), and it comes when
every decision has been made: so nothing that a decision could have looked at, or that only a proxy may say, is passed
on in one (RFC 9110 section 6.5.1).

What remains is what trailers are for: digests, timings, signatures, and the status and metadata of gRPC. An underscore
is taken for a hyphen, as CGI and its heirs do.
"""

from collections.abc import Container

from policies.attributes import Header, Headers
from waypoint.errors import BadRequest
from waypoint.http.settings import HttpSettings

# Where a message ends, what its content is, who asks, where to go, and what only proxies say.
_NEVER = frozenset(
    {b"transfer-encoding", b"content-length", b"host", b"connection", b"te", b"trailer", b"upgrade", b"keep-alive"}
    | {b"content-type", b"content-encoding", b"content-range", b"content-language", b"content-location"}
    | {b"content-disposition", b"cache-control", b"pragma", b"expect", b"max-forwards", b"range", b"http2-settings"}
    | {b"authorization", b"www-authenticate", b"cookie", b"set-cookie", b"location", b"server", b"via", b"forwarded"}
)
_NEVER_BEGINS = (b":", b"proxy-", b"x-envoy-", b"x-forwarded-", b"access-control-")
# What a request says about its client, which a response's metadata may well repeat.
_NEVER_OF_REQUESTS = frozenset(
    {b"origin", b"referer", b"user-agent", b"baggage", b"traceparent", b"tracestate", b"x-request-id", b"x-real-ip"}
)
_NEVER_BEGINS_OF_REQUESTS = (b"if-", b"sec-", b"x-istio-", b"x-b3-")


def request_trailers(fields: list[Header], settings: HttpSettings) -> Headers:
    """Raises BadRequest where a setting wants no underscores."""
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
    """Those that are none of these."""
    return [it for it in trailers if it[0] not in names and it[0].replace(b"_", b"-") not in names]


def _is_of_heads(name: bytes) -> bool:
    return name in _NEVER or name.startswith(_NEVER_BEGINS)
