"""Convert between HTTP/2 heads and the waypoint's heads (RFC 9113 section 8, RFC 8441), without I/O.

The engine has checked HTTP/2's rules for heads. `hygiene` then applies the same rules as for HTTP/1.1, so that the HTTP
version makes no difference to policies.
"""

from dataclasses import dataclass

from l4.http2.events import RequestReceived, ResponseReceived, TrailersReceived
from policies.attributes import Header, Headers, RepeatedHeaders, RequestHead, ResponseHead
from policies.decimals import decimal
from policies.last_look import IN_BODILESS_RESPONSES, IN_RESPONSES, NOTHING, check_head, check_target
from waypoint.errors import RouteNotFound, UpgradeRefused
from waypoint.http import websocket
from waypoint.http.events import EMPTY, OPAQUE, STREAMED, Body
from waypoint.http.hygiene import canonical_request, canonical_response
from waypoint.http.settings import HttpSettings
from waypoint.http.trailers import response_trailers

_WEBSOCKET = b"websocket"
_EMPTY_BODY = Body(0)


@dataclass(slots=True)
class _KnownRequest:
    """A canonical head that came before, without an upgrade or overrides."""

    head: RequestHead
    body: Body
    ends: bool  # with the head


@dataclass(slots=True)
class _KnownResponse:
    """The same of an ordinary response, whose body does not depend on the request."""

    head: ResponseHead
    body: Body
    ends: bool


@dataclass(slots=True)
class _KnownTrailers:
    """What is forwarded of a response's trailers that came before."""

    trailers: Headers


def received_request(event: RequestReceived, settings: HttpSettings) -> tuple[RequestHead, Body]:
    """The same as `request_head`. A head that comes again is not canonicalized again."""
    memo = event.memo
    if memo is not None and isinstance(memo.kept, _KnownRequest):
        known: _KnownRequest = memo.kept
        if known.ends == event.end_stream:
            return known.head.again(), known.body
    head, body = request_head(event.headers, event.end_stream, settings)
    if memo is not None and not head.upgrade and head.overrides is None:
        kept = head.again()
        kept.repeated = RepeatedHeaders(kept.headers)
        memo.kept = _KnownRequest(kept, body, event.end_stream)
    return head, body


def received_response(event: ResponseReceived, request: RequestHead) -> tuple[ResponseHead, Body]:
    """The same as `response_head`. A head that comes again is not canonicalized again."""
    memo = event.memo if request.method != b"HEAD" and not request.upgrade else None
    if memo is not None and isinstance(memo.kept, _KnownResponse):
        known: _KnownResponse = memo.kept
        if known.ends == event.end_stream:
            return known.head.again(), known.body
    head, body = response_head(event.headers, event.end_stream, request)
    if memo is not None:
        kept = head.again()
        kept.repeated = RepeatedHeaders(kept.headers)
        memo.kept = _KnownResponse(kept, body, event.end_stream)
    return head, body


def received_trailers(event: TrailersReceived) -> Headers:
    """Return the trailers of a response to forward. Those that come again are not filtered again."""
    memo = event.memo
    if memo is None:
        return response_trailers(event.headers)
    if not isinstance(memo.kept, _KnownTrailers):
        memo.kept = _KnownTrailers(response_trailers(event.headers))
    known: _KnownTrailers = memo.kept
    return known.trailers.copy()


def request_head(headers: Headers, end_stream: bool, settings: HttpSettings) -> tuple[RequestHead, Body]:
    """Return the canonical head of a request. Raises BadRequest, RouteNotFound (CONNECT) or UpgradeRefused."""
    pseudo: dict[bytes, bytes] = {}
    fields: list[Header] = []
    cookies: list[bytes] = []
    for header in headers:
        name, value = header
        if name[:1] == b":":
            pseudo[name] = value
        elif name == b"cookie":
            cookies.append(value)
        elif name != b"host" or b":authority" not in pseudo:
            fields.append(header)
    if cookies:  # RFC 9113 section 8.2.3
        fields.append((b"cookie", b"; ".join(cookies)))
    if b":authority" in pseudo:
        fields.append((b"host", pseudo[b":authority"]))
    method = pseudo[b":method"]
    protocol = pseudo.get(b":protocol")
    if method == b"CONNECT":
        if protocol is None:
            raise RouteNotFound
        if protocol.lower() != _WEBSOCKET:
            raise UpgradeRefused
        method = b"GET"
    head, body = canonical_request(method, pseudo[b":path"], fields, settings)
    if protocol is not None:
        head.upgrade = _WEBSOCKET
        return head, OPAQUE
    if end_stream:
        return head, EMPTY if body.is_empty else _EMPTY_BODY
    return head, STREAMED if body.is_empty else body


def response_head(headers: Headers, end_stream: bool, request: RequestHead) -> tuple[ResponseHead, Body]:
    """Return the canonical head of a response; `:status` must come first. Raises UpstreamProtocolError."""
    status = int(headers[0][1])
    head, body, _ = canonical_response(status, headers[1:], request.method)
    if request.upgrade and 200 <= status < 300 and not end_stream:
        return ResponseHead(101, [*head.headers, *_accepted(request)]), OPAQUE
    return head, _EMPTY_BODY if end_stream and not body.is_empty else body


def format_request(head: RequestHead, body: Body) -> Headers:
    """Raises Unwritable, as does `format_response`."""
    target = head.target
    check_target(head.method, target, head.authority)
    check_head(head.headers, head.repeated, NOTHING)
    headers = [
        (b":method", head.method),
        (b":scheme", b"http"),
        (b":authority", head.authority),
        (b":path", target),
        *head.headers,
    ]
    if head.upgrade:
        headers[0] = (b":method", b"CONNECT")
        headers.insert(1, (b":protocol", head.upgrade))
        return [header for header in headers if header[0] != b"sec-websocket-key"]
    if body.length is not None and not body.is_empty:
        headers.append((b"content-length", decimal(body.length)))
    return headers


def format_response(head: ResponseHead, body: Body) -> Headers:
    check_head(head.headers, head.repeated, IN_BODILESS_RESPONSES if body.is_empty else IN_RESPONSES)
    status = 200 if body.is_opaque else head.status
    headers = [(b":status", decimal(status)), *head.headers]
    if body.is_opaque:
        return [header for header in headers if header[0] != b"sec-websocket-accept"]
    if body.length:
        headers.append((b"content-length", decimal(body.length)))
    return headers


def size_of(headers: Headers) -> int:
    """Size of the headers as HTTP/1.1, because the compressed size depends on earlier heads."""
    size = 4 * len(headers)
    name: bytes
    value: bytes
    for name, value in headers:
        size += len(name) + len(value)
    return size


def _accepted(request: RequestHead) -> Headers:
    """The header that an HTTP/1.1 WebSocket client expects. HTTP/2 has no equivalent (RFC 8441 section 5)."""
    key = request.get(b"sec-websocket-key")
    return [] if key is None else [(b"sec-websocket-accept", websocket.accept_of(key))]
