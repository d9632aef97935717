"""gRPC-Web (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md): gRPC for browsers, which lack trailers.

`GrpcWeb` translates between a client and its exchange. The endpoint receives plain gRPC. The client receives the same
messages, with the trailers as one more frame of the body (flag 0x80), all in base64 if it asked for text. It is used
only on ports that declare gRPC-Web.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error

from policies.attributes import Headers, RequestHead, ResponseHead
from policies.last_look import check_fields
from waypoint.errors import BadRequest, ExchangeError
from waypoint.http.events import STREAMED, Body, Downstream, RequestSink

_CONTENT_TYPE = re.compile(rb"^application/grpc-web(-text)?(?=[+;]|$)")
_TRAILERS = 0x80
_SEGMENT = re.compile(rb"[^=]*={0,2}")


def is_grpc_web(head: RequestHead) -> bool:
    return _CONTENT_TYPE.match(head.get(b"content-type") or b"") is not None


def make_grpc(head: RequestHead) -> None:
    """Convert the head of a gRPC-Web request to plain gRPC."""
    content_type = _CONTENT_TYPE.sub(b"application/grpc", head.get(b"content-type") or b"")
    headers = [header for header in head.headers if header[0] not in (b"content-type", b"te")]
    head.headers = [*headers, (b"content-type", content_type), (b"te", b"trailers")]


class GrpcWeb:
    """A `RequestSink` for the client and a `Downstream` for the exchange. Converts the head in place."""

    __slots__ = ("_accepts_text", "_content_type", "_downstream", "_encoded", "_exchange", "_is_text", "protocol")

    _exchange: RequestSink

    def __init__(self, downstream: Downstream, head: RequestHead) -> None:
        content_type = head.get(b"content-type") or b""
        match = _CONTENT_TYPE.match(content_type)
        assert match is not None
        accepted = _CONTENT_TYPE.match(head.get(b"accept") or b"")
        self.protocol = downstream.protocol
        self._downstream = downstream
        self._is_text = match[1] is not None
        self._accepts_text = accepted is not None and accepted[1] is not None
        suffix = content_type[match.end() :]
        self._content_type = match[0].removesuffix(b"-text") + (b"-text" if self._accepts_text else b"") + suffix
        self._encoded = b""
        make_grpc(head)

    def body(self, body: Body) -> Body:
        """Return the body for the exchange. Decoded text has an unknown length."""
        return STREAMED if self._is_text else body

    def translate(self, exchange: RequestSink) -> None:
        self._exchange = exchange

    # -- events.RequestSink: from the client to the exchange -------------------------------------------------------

    def start(self) -> None:
        self._exchange.start()

    def request_body(self, data: bytes) -> None:
        if self._is_text:
            data = self._encoded + data
            whole = len(data) - len(data) % 4
            data, self._encoded = data[:whole], data[whole:]
            try:
                data = b"".join(b64decode(it, validate=True) for it in _SEGMENT.findall(data))
            except Base64Error:
                self._exchange.request_failed(BadRequest("grpc_web.malformed_base64"))
                return
        if data:
            self._exchange.request_body(data)

    def request_end(self, trailers: Headers) -> None:
        if self._encoded:
            self._exchange.request_failed(BadRequest("grpc_web.malformed_base64"))
        else:
            self._exchange.request_end([])

    def request_failed(self, error: ExchangeError) -> None:
        self._exchange.request_failed(error)

    def policies_changed(self) -> None:
        self._exchange.policies_changed()

    def downstream_lost(self) -> None:
        self._exchange.downstream_lost()

    def resume_response(self) -> None:
        self._exchange.resume_response()

    # -- events.Downstream: from the exchange to the client --------------------------------------------------------

    def send_head(self, head: ResponseHead, body: Body) -> int:
        headers = [header for header in head.headers if header[0] != b"content-type"]
        content_type = head.get(b"content-type") or b""
        is_grpc = content_type.startswith(b"application/grpc")
        headers.append((b"content-type", self._content_type if is_grpc else content_type))
        self._accepts_text = self._accepts_text and is_grpc
        has_none = body.is_empty or body.length == 0
        return self._downstream.send_head(ResponseHead(head.status, headers), body if has_none else STREAMED)

    def send_informational(self, head: ResponseHead) -> None:
        self._downstream.send_informational(head)

    def send_body(self, data: bytes) -> bool:
        return self._downstream.send_body(b64encode(data) if self._accepts_text else data)

    def send_end(self, trailers: Headers) -> None:
        if trailers:
            check_fields(trailers)
            block = b"".join(b"%b: %b\r\n" % header for header in trailers)
            self.send_body(bytes([_TRAILERS]) + len(block).to_bytes(4) + block)
        self._downstream.send_end([])

    def reset(self) -> None:
        self._downstream.reset()

    def pause_request(self) -> None:
        self._downstream.pause_request()

    def resume_request(self) -> None:
        self._downstream.resume_request()
