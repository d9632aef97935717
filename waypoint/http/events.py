"""Interfaces between the client's and the endpoint's side of an exchange, the same for all HTTP versions."""

from dataclasses import dataclass
from typing import Protocol

from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.errors import ExchangeError


@dataclass(frozen=True, slots=True)
class Body:
    """How the end of a body is determined: by `length`, or by the framing (chunks or end of stream) if that is None.

    `EMPTY` means no body and no content-length. `OPAQUE` means bytes of another protocol until the end of the stream
    (after an upgrade).
    """

    length: int | None = None
    is_empty: bool = False
    is_opaque: bool = False


EMPTY = Body(0, is_empty=True)
STREAMED = Body()
OPAQUE = Body(is_opaque=True)


class RequestSink(Protocol):
    """Receives a request as it arrives."""

    def start(self) -> None:
        """The head was received. No other method is called before this one."""

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: Headers) -> None: ...

    def request_failed(self, error: ExchangeError) -> None:
        """The rest of the request is invalid or does not arrive. Answer with the error, or cut a response that has
        begun."""

    def policies_changed(self) -> None:
        """Check whether the request is still allowed."""

    def downstream_lost(self) -> None:
        """The client has disconnected. No response can be sent."""

    def resume_response(self) -> None:
        """The client accepts data again, after `send_body` returned False."""


class Downstream(Protocol):
    """The client's side of one exchange. Calls after its end or loss have no effect."""

    protocol: str
    """The protocol in the access log: `HTTP/1.1`."""

    def send_head(self, head: ResponseHead, body: Body) -> int:
        """Send the response's head. Returns its size on the wire in bytes.

        Raises Unwritable before anything is written, as do the two other methods that send fields.
        """

    def send_informational(self, head: ResponseHead) -> None:
        """Send a 1xx head before the response."""

    def send_body(self, data: bytes) -> bool:
        """Send data. Returns False if the client is slower; then wait for `resume_response`."""

    def send_end(self, trailers: Headers) -> None:
        """Complete the response."""

    def reset(self) -> None:
        """The response cannot be completed. Cut it, so that it is not taken for complete."""

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...


class ResponseSink(Protocol):
    """Receives the response of one attempt."""

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers) -> None: ...

    def attempt_failed(self, error: ExchangeError) -> None: ...

    def resume_upstream(self) -> None:
        """The endpoint accepts data again, after `send_body` returned False."""


class Upstream(Protocol):
    """The endpoint's side of one attempt."""

    def send_head(self, head: RequestHead, body: Body, sink: ResponseSink) -> int:
        """Send the request's head. Returns its size on the wire in bytes. Raises Unwritable before anything is
        written."""

    def send_body(self, data: bytes) -> bool: ...

    def send_end(self, trailers: Headers) -> None: ...

    def abort(self) -> None: ...

    def show(self, sink: ResponseSink) -> None:
        """Give the rest of the response to another sink."""

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...
