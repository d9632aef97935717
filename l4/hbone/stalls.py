"""Tunnels that wait for their peer to open a window, and the time of their last progress."""

import asyncio
from collections.abc import Callable

from l4.hbone.patience import Patience
from l4.hbone.tunnel import Tunnel


class Stalls:
    """Calls `cut` for each tunnel without progress for too long. `since` maps blocked tunnels to their last
    progress."""

    __slots__ = ("_cut", "_loop", "_patience", "_timer", "since")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, patience: Patience, cut: Callable[[Tunnel, float], None]
    ) -> None:
        self.since: dict[Tunnel, float] = {}
        self._loop = loop
        self._patience = patience
        self._cut = cut
        self._timer: asyncio.TimerHandle | None = None

    def add(self, tunnel: Tunnel, has_progressed: bool) -> None:
        """Note that the windows did not allow sending all of the tunnel's data."""
        now = self._loop.time()
        if has_progressed or tunnel not in self.since:
            self.since[tunnel] = now
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._patience.stall, self._look)

    def begin_anew(self) -> None:
        """Restart the time limit of all tunnels, because it may have changed."""
        if not self.since:
            return
        now = self._loop.time()
        for tunnel in self.since:
            self.since[tunnel] = now
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(now + self._patience.stall, self._look)

    def stop(self) -> None:
        """Stop, because the connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._cut = _ignore  # breaks a reference cycle that only the garbage collector could free

    def _look(self) -> None:
        self._timer = None
        now, seconds = self._loop.time(), self._patience.stall
        for tunnel, since in list(self.since.items()):
            if not tunnel.get_write_buffer_size():  # reset by the peer, and not yet read to the end
                del self.since[tunnel]
            elif now - since >= seconds:
                self._cut(tunnel, seconds)
        if self.since:
            self._timer = self._loop.call_at(min(self.since.values()) + seconds, self._look)


def _ignore(tunnel: Tunnel, seconds: float) -> None:
    pass
