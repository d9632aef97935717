"""A request that waits for an authorizer, a rate limit service, keys or an injected delay.

Its client is paused meanwhile, so that only data already in flight is kept here, or the part of the body that an
authorizer needs.
"""

import asyncio
from collections.abc import Generator

from policies.attributes import Headers, RequestHead, ResponseHead
from waypoint.filters.filter import Wait
from waypoint.http.events import Body, Downstream

Steps = Generator[Wait, None, None]


async def see_through(steps: Steps, wait: Wait, held: "Held") -> None:
    """Await `wait`, and all further waits of the remaining steps."""
    following: Wait | None = wait
    while following is not None:
        await following(held)
        following = next(steps, None)


class Held:
    """A waiting request. `task` admits it.

    `arrived` is the body data received in the meantime. `trailers` is None until the request is complete.
    """

    __slots__ = (
        "_body",
        "_downstream",
        "_enough",
        "_gathered",
        "_head",
        "_size",
        "arrived",
        "task",
        "trailers",
    )

    def __init__(self, downstream: Downstream, head: RequestHead, body: Body) -> None:
        self.task: asyncio.Task[None] | None = None
        self._downstream = downstream
        self._head = head
        self._body = body
        self.arrived: list[bytes] = []
        self.trailers: Headers | None = None
        self._size = 0
        self._enough = 0
        self._gathered: asyncio.Future[None] | None = None

    def put(self, data: bytes) -> None:
        self.arrived.append(data)
        self._size += len(data)
        if self._size >= self._enough:
            self._wake()

    def end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self._wake()

    async def told_of_body(self, max_bytes: int, *, takes_part: bool) -> bytes | None:
        length = self._body.length
        if not max_bytes or self._body.is_empty or self._body.is_opaque:
            return b""
        if length is not None and length > max_bytes and not takes_part:
            return None
        head = self._head
        if head.get(b"expect") is not None:  # the client waits for 100 Continue
            head.headers = [header for header in head.headers if header[0] != b"expect"]
            self._downstream.send_informational(ResponseHead(100, []))
        self._downstream.resume_request()
        await self._gather(max_bytes if takes_part else max_bytes + 1)
        self._downstream.pause_request()
        body = b"".join(self.arrived)
        return body[:max_bytes] if takes_part or len(body) <= max_bytes else None

    async def _gather(self, enough: int) -> None:
        """Wait for `enough` bytes of the body, or for its end."""
        if self._size < enough and self.trailers is None:
            self._enough = enough
            self._gathered = asyncio.get_running_loop().create_future()
            await self._gathered

    def close(self) -> None:
        """End the wait."""
        if self.task is not None:
            self.task.cancel()
        self.arrived.clear()

    def _wake(self) -> None:
        if self._gathered is not None and not self._gathered.done():
            self._gathered.set_result(None)
