"""What an HTTP message is made of on its way through, whichever version of HTTP carries it."""

from dataclasses import dataclass
from typing import Protocol

from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.errors import ExchangeError


@dataclass(frozen=True, slots=True)
class Body:
    """How the end of a body is known: `length` bytes, or, when that is None, from the framing (chunks or the end of
    the stream). `EMPTY` says that there is none at all, and no content-length either; `OPAQUE` that what follows is
    no HTTP any more, but another protocol's bytes up to the end of the stream (after an upgrade)."""

    length: int | None = None
    is_empty: bool = False
    is_opaque: bool = False


EMPTY = Body(0, is_empty=True)
STREAMED = Body()
OPAQUE = Body(is_opaque=True)


class RequestSink(Protocol):
    """Takes a request as it arrives."""

    def start(self) -> None:
        """The head is there; everything else may be called after this only."""

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: Headers) -> None: ...

    def request_failed(self, error: ExchangeError) -> None:
        """The rest of the request can't be understood, or doesn't come: answer that, or, when the response is already
        under way, cut it."""

    def policies_changed(self) -> None:
        """See whether the request is still allowed."""

    def downstream_lost(self) -> None:
        """The client is gone; nothing can be answered any more."""

    def resume_response(self) -> None:
        """The client takes bytes again after `send_body` had returned False."""


class Downstream(Protocol):
    """The client's side of one exchange: takes its response. Calls after the end, or after a loss, do nothing."""

    protocol: str
    """As in the access log: `HTTP/1.1`."""

    def send_head(self, head: ResponseHead, body: Body) -> int:
        """The response's head; how many bytes it is on the wire. Raises Unwritable, as do the two that send fields:
        nothing was written then."""

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx head in front of the response."""

    def send_body(self, data: bytes) -> bool:
        """False when the client is slower than this: wait for `resume_response`."""

    def send_end(self, trailers: Headers) -> None:
        """The response is whole."""

    def reset(self) -> None:
        """The response cannot be completed: cut it so that nobody takes it for whole."""

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...


class ResponseSink(Protocol):
    """Takes the response to one attempt."""

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_end(self, trailers: Headers) -> None: ...

    def attempt_failed(self, error: ExchangeError) -> None: ...

    def resume_upstream(self) -> None:
        """The endpoint takes bytes again after `send_body` had returned False."""


class Upstream(Protocol):
    """The endpoint's side of one attempt."""

    def send_head(self, head: RequestHead, body: Body, sink: ResponseSink) -> int:
        """How many bytes it is on the wire. Raises Unwritable, before anything was written."""

    def send_body(self, data: bytes) -> bool: ...

    def send_end(self, trailers: Headers) -> None: ...

    def abort(self) -> None: ...

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...
