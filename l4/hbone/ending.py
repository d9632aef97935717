"""When and how an HBONE connection ends.

- Its peer is silent: a PING is sent `ping_interval_seconds` after the start and after each answer. The connection ends
  if the answer takes more than `ping_timeout_seconds`.
- It is drained: the peer is told to open no more streams, and the connection closes with the last tunnel (`farewell`).
- Its certificates expire (`lifetime`): it is drained long before.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from l4.hbone.lifetime import Lifetime
from l4.hbone.patience import Patience
from l4.http2.connection import Connection
from l4.http2.farewell import Farewell
from policies.attributes import Peer

log = logging.getLogger(__name__)

_PING = b"waypoint"
_CUT_GRACE_SECONDS = 1.0


class Ended(Protocol):
    """The connection that ends. `has_spoken`: whether the peer sent anything since our last PING or CONNECT."""

    loop: asyncio.AbstractEventLoop
    engine: Connection
    peer: Peer
    has_spoken: bool

    def flush_soon(self) -> None: ...

    def refused(self, reason: str) -> None: ...

    def announce_close(self) -> None:
        """Tell the tunnels that the connection will end."""

    def end_when_idle(self) -> None:
        """Close the connection when its last tunnel has ended."""

    def drain(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class Ending:
    __slots__ = ("_connection", "_farewell", "_lifetime", "_patience", "_timer")

    def __init__(self, connection: Ended, patience: Patience) -> None:
        self._connection = connection
        self._patience = patience
        self._farewell = Farewell(connection.engine)
        self._lifetime: Lifetime | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._expect(self._patience.ping_interval, self._ping)

    def stop(self) -> None:
        """Stop, because the connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lifetime is not None:
            self._lifetime.end()
            self._lifetime = None  # breaks a reference cycle that only the garbage collector could free

    def drain(self, *, is_stopping: bool) -> bool:
        """Tell the peer to open no more streams. Returns False if it was told before."""
        if self._farewell.is_announced and self._patience.is_stopping == is_stopping:
            return False
        self._patience.is_stopping = is_stopping or self._patience.is_stopping
        self._farewell.announce()
        self._ping()
        return True

    def end_by(self, expires_at: float) -> None:
        """Limit the connection's lifetime to `expires_at`, in seconds of the wall clock."""
        self._lifetime = Lifetime(expires_at, self._outdated, self._expired)

    def pong(self, payload: bytes) -> None:
        if self._farewell.hears(payload):
            self._finish()
        elif payload != _PING or self._farewell.is_announced:  # a PING from before the GOAWAY, or a probe
            return
        self._expect(self._patience.ping_interval, self._ping)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _ping(self) -> None:
        if self._farewell.is_announced:
            self._farewell.ask()
        else:
            self._connection.engine.ping(_PING)
        self._connection.flush_soon()
        self._wait()

    def _wait(self) -> None:
        self._connection.has_spoken = False
        self._expect(self._patience.ping_timeout, self._silent)

    def _expect(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._connection.loop.call_later(seconds, call)

    def _silent(self) -> None:
        connection = self._connection
        if self._patience.is_stopping and connection.has_spoken:
            self._finish()  # the peer is alive, and will see the PING after the data before it
            self._wait()
            return
        seconds = self._patience.ping_timeout
        log.info("HBONE connection with %s closed: no answer to PING within %g s", connection.peer, seconds)
        connection.abort()

    def _finish(self) -> None:
        if self._farewell.finish():
            self._connection.end_when_idle()

    def _outdated(self) -> None:
        self._connection.drain()
        self._connection.announce_close()

    def _expired(self) -> None:
        connection = self._connection
        log.info("HBONE connection with %s closed: its certificate or ours has expired", connection.peer)
        connection.refused("expired_certificate")
        connection.close()
        connection.loop.call_later(_CUT_GRACE_SECONDS, connection.abort)  # in case the peer reads nothing
