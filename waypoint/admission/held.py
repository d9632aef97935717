"""Where a request waits while somebody outside is asked about it, or because it was asked to be slow.

Its client is held back meanwhile, so that what is kept here is no more than what was on its way already, or what of its
body is asked about.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from policies.attributes import Headers, RequestHead, ResponseHead
from policies.external_auth import Authorizer, Question
from waypoint.data_path import Connection
from waypoint.errors import PayloadTooLarge
from waypoint.filters.external_auth import Asked, ask
from waypoint.http.events import Body, Downstream
from waypoint.upstream.cluster import Cluster

Wait = Callable[[], Awaitable[object]]
"""A call whose result is waited for; not made yet, so that nothing is left of it when nobody waits after all."""
Steps = Generator[Wait, Any, None]


async def see_through(steps: Steps, wait: Wait) -> None:
    """Wait for `wait`, and for whatever else the steps behind it have to wait for."""
    following: Wait | None = wait
    while following is not None:
        result = await following()
        try:
            following = steps.send(result)
        except StopIteration:
            return


class Held:
    """`task` is what sees the request through; of the body, `arrived` is what came meanwhile, and `trailers` are None
    until the request is complete."""

    __slots__ = (
        "_body",
        "_connection",
        "_downstream",
        "_enough",
        "_gathered",
        "_head",
        "_size",
        "arrived",
        "task",
        "trailers",
    )

    def __init__(self, connection: Connection, downstream: Downstream, head: RequestHead, body: Body) -> None:
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
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

    async def ask(self, question: Question, cluster: Cluster | None) -> Asked:
        """Ask an authorizer, whose cluster it is."""
        body = await self._told_of_body(question.authorizer)
        if body is None:
            return Asked(error=PayloadTooLarge())
        return await ask(self._connection, question, cluster, body, self._body, self._downstream.protocol)

    async def _told_of_body(self, authorizer: Authorizer) -> bytes | None:
        """What an authorizer is told of the body; None when it wants all of one that is too long."""
        length, most = self._body.length, authorizer.max_body_bytes
        if not most or self._body.is_empty or self._body.is_opaque:
            return b""
        if length is not None and length > most and not authorizer.takes_part:
            return None
        head = self._head
        if head.get(b"expect") is not None:  # the client waits to be told that we want it
            head.headers = [header for header in head.headers if header[0] != b"expect"]
            self._downstream.send_informational(ResponseHead(100, []))
        self._downstream.resume_request()
        await self._gather(most if authorizer.takes_part else most + 1)
        self._downstream.pause_request()
        body = b"".join(self.arrived)
        return body[:most] if authorizer.takes_part or len(body) <= most else None

    async def _gather(self, enough: int) -> None:
        """Wait for so many bytes of the body, or for all of it."""
        if self._size < enough and self.trailers is None:
            self._enough = enough
            self._gathered = asyncio.get_running_loop().create_future()
            await self._gathered

    def close(self) -> None:
        """Nobody waits any more."""
        if self.task is not None:
            self.task.cancel()
        self.arrived.clear()

    def _wake(self) -> None:
        if self._gathered is not None and not self._gathered.done():
            self._gathered.set_result(None)
