"""Where a request waits while something outside is asked about it, or because it was asked to be slow.

Its client is held back meanwhile, so that what is kept here is no more than what was on its way already.
"""

import asyncio

from policies.attributes import Headers


class Gate:
    """`task` is what is waited for; `trailers` are None until the request is complete."""

    __slots__ = ("body", "task", "trailers")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.body: list[bytes] = []
        self.trailers: Headers | None = None

    def close(self) -> None:
        """Nobody waits any more."""
        self.task.cancel()
        self.body.clear()
