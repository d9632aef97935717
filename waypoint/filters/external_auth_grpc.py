"""External authorization over gRPC: `envoy.service.auth.v3.Authorization/Check`, one message each way.

Fields beyond those of HTTP authorization, such as dynamic metadata, are ignored.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from google.protobuf.message import DecodeError

from policies.attributes import Header, Headers, Peer, RequestHead
from policies.authorizer import Allowed, Denied, Question, Worthless, denial, fit, removable
from policies.rewrite import HeaderEdit
from policies.wire_text import HeaderName
from waypoint._proto.external_auth_pb2 import (
    Address,
    AttributeContext,
    CheckRequest,
    CheckResponse,
    HeaderValueOption,
    OkHttpResponse,
    SocketAddress,
    Timestamp,
)
from waypoint.filters import grpc_call
from waypoint.filters.call import Response
from waypoint.http.events import Body

_METHOD = b"/envoy.service.auth.v3.Authorization/Check"
_FORBIDDEN = 403


def request(hostname: str, seconds: float) -> RequestHead:
    return grpc_call.request(hostname, _METHOD, seconds)


def message(question: Question, source: Peer, destination: Peer, told: bytes, body: Body, protocol: str) -> bytes:
    """Return the request message, framed for gRPC. `told` is the part of the request's body that the authorizer gets;
    the length of the body itself may be unknown."""
    head, authorizer = question.head, question.authorizer
    http = AttributeContext.HttpRequest(
        id=(head.get(b"x-request-id") or b"").decode("latin-1"),
        method=head.method.decode("latin-1"),
        headers=_merged(head),
        path=head.target.decode("latin-1"),
        host=head.authority.decode("latin-1"),
        scheme=(head.get(b"x-forwarded-proto") or b"http").decode("latin-1"),
        size=-1 if body.length is None else body.length,
        protocol=protocol,
    )
    if authorizer.packs_as_bytes:
        http.raw_body = told
    else:
        http.body = told.decode("utf-8", "replace")
    seconds, nanos = divmod(time.time_ns(), 10**9)
    return grpc_call.framed(
        CheckRequest(
            attributes=AttributeContext(
                source=_peer(source),
                destination=_peer(destination),
                request=AttributeContext.Request(time=Timestamp(seconds=seconds, nanos=nanos), http=http),
            )
        ).SerializeToString()
    )


def read(response: Response) -> Allowed | Denied | None:
    """Return the authorizer's answer, or None if the call failed. Raises Worthless."""
    data = grpc_call.message_of(response)
    if data is None:
        return None
    try:
        answer = CheckResponse.FromString(data)
    except DecodeError:
        raise Worthless("the answer is not a CheckResponse") from None
    if answer.status.code == 0:
        return _allowed(answer.ok_response)
    denied = answer.denied_response
    return denial(denied.status.code or _FORBIDDEN, _pairs(denied.headers), denied.body)


def _allowed(answer: OkHttpResponse) -> Allowed:
    return Allowed(
        _edit(answer.headers, _appends, removable(name.lower().encode() for name in answer.headers_to_remove)),
        _edit(answer.response_headers_to_add, _appends_to_response, ()),
        tuple((it.key.encode(), it.value.encode()) for it in answer.query_parameters_to_set),
        tuple(name.encode() for name in answer.query_parameters_to_remove),
    )


def _edit(
    options: Iterable[HeaderValueOption], appends: Callable[[HeaderValueOption], bool], removed: tuple[HeaderName, ...]
) -> HeaderEdit:
    its = list(options)
    return HeaderEdit(
        set=tuple(fit(_pairs(it for it in its if not appends(it)))),
        add=tuple(fit(_pairs(it for it in its if appends(it)))),
        remove=removed,
    )


def _appends(option: HeaderValueOption) -> bool:
    """Whether the option appends to a request header. The default is to replace, as in Envoy for this message."""
    return option.append.value


def _appends_to_response(option: HeaderValueOption) -> bool:
    """Whether the option appends to a response header. The default is to append: a cookie does not replace the
    application's."""
    if option.HasField("append"):
        return option.append.value
    return option.append_action in {HeaderValueOption.APPEND_IF_EXISTS_OR_ADD, HeaderValueOption.ADD_IF_ABSENT}


def _pairs(options: Iterable[HeaderValueOption]) -> Iterator[Header]:
    for it in options:
        yield it.header.key.encode(), it.header.raw_value or it.header.value.encode()


def _merged(head: RequestHead) -> dict[str, str]:
    """Return header fields with repeated names merged, including the pseudo headers of HTTP/2, as Envoy does."""
    scheme = head.get(b"x-forwarded-proto") or b"http"
    fields: Headers = [(b":method", head.method), (b":scheme", scheme), (b":path", head.target)]
    fields.append((b":authority", head.authority))
    merged: dict[str, str] = {}
    for name, value in [*fields, *head.headers]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        separator = "; " if key == "cookie" else ","
        merged[key] = f"{merged[key]}{separator}{text}" if key in merged else text
    return merged


def _peer(peer: Peer) -> AttributeContext.Peer:
    address = Address(socket_address=SocketAddress(address=peer.ip, port_value=peer.port))
    return AttributeContext.Peer(address=address, principal=str(peer.identity or ""))
