"""Sits between an endpoint and an exchange if the retry policy looks at responses, until one is accepted.

A response that is discarded because of a retry is read to its end if it is short, so that the connection can be reused,
and aborted otherwise.
"""

import asyncio
from typing import Protocol

from policies.attributes import Headers, ResponseHead
from waypoint.errors import ExchangeError
from waypoint.http.client import Http1Client
from waypoint.http.events import Body, ResponseSink
from waypoint.http.h2_client import ClientStream

MAX_DISCARDED_BYTES = 16 << 10  # a new connection with its handshakes costs about as much as reading this many bytes
DISCARD_SECONDS = 1.0


class Judge(Protocol):
    def answered(self, head: ResponseHead, body: Body) -> "Discarded | None":
        """Return None to show this response, else a sink for the rest of it."""


class Watch:
    """Implements `events.ResponseSink`."""

    __slots__ = ("_judge", "_sink")

    def __init__(self, judge: Judge, sink: ResponseSink) -> None:
        self._judge = judge
        self._sink = sink

    def response_informational(self, head: ResponseHead) -> None:
        self._sink.response_informational(head)

    def response_head(self, head: ResponseHead, body: Body) -> None:
        discarded = self._judge.answered(head, body)
        if discarded is None:
            self._sink.response_head(head, body)
        else:
            self._sink = discarded

    def response_body(self, data: bytes) -> None:
        self._sink.response_body(data)

    def response_end(self, trailers: Headers) -> None:
        self._sink.response_end(trailers)

    def attempt_failed(self, error: ExchangeError) -> None:
        self._sink.attempt_failed(error)

    def resume_upstream(self) -> None:
        self._sink.resume_upstream()


class Discarded:
    """Implements `events.ResponseSink` for the rest of a response."""

    __slots__ = ("_client", "_left", "_timer")

    def __init__(self, client: Http1Client | ClientStream, body: Body, *, is_request_complete: bool) -> None:
        self._client = client
        self._left = MAX_DISCARDED_BYTES
        self._timer: asyncio.TimerHandle | None = None
        if not is_request_complete or body.is_opaque or (body.length or 0) > MAX_DISCARDED_BYTES:
            client.abort()
        elif body.length != 0:
            self._timer = asyncio.get_running_loop().call_later(DISCARD_SECONDS, client.abort)

    def response_informational(self, head: ResponseHead) -> None: ...

    def response_head(self, head: ResponseHead, body: Body) -> None: ...

    def response_body(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._stop()
            self._client.abort()

    def response_end(self, trailers: Headers) -> None:
        self._stop()

    def attempt_failed(self, error: ExchangeError) -> None:
        self._stop()

    def resume_upstream(self) -> None: ...

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
