"""Where a request waits while something outside is asked about it, or because it was asked to be slow.

Its client is held back meanwhile, so that what is kept here is no more than what was on its way already, or what of its
body is asked about.
"""

import asyncio

from policies.attributes import Headers
from policies.rewrite import HeaderEdit


class Gate:
    """`task` is what is waited for; `trailers` are None until the request is complete. `response_edits` are what those
    who were asked change of the response."""

    __slots__ = ("_enough", "_gathered", "_size", "body", "response_edits", "task", "trailers")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.body: list[bytes] = []
        self.trailers: Headers | None = None
        self.response_edits: tuple[HeaderEdit, ...] = ()
        self._size = 0
        self._enough = 0
        self._gathered: asyncio.Future[None] | None = None

    def put(self, data: bytes) -> None:
        self.body.append(data)
        self._size += len(data)
        if self._size >= self._enough:
            self._wake()

    def end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self._wake()

    async def gather(self, enough: int) -> None:
        """Wait for so many bytes of the body, or for all of it."""
        if self._size < enough and self.trailers is None:
            self._enough = enough
            self._gathered = asyncio.get_running_loop().create_future()
            await self._gathered

    def close(self) -> None:
        """Nobody waits any more."""
        self.task.cancel()
        self.body.clear()

    def _wake(self) -> None:
        if self._gathered is not None and not self._gathered.done():
            self._gathered.set_result(None)
