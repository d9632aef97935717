"""Drives one HTTP/2 connection over one transport: bytes to the engine, events to tunnels, few writes per loop turn.

A Driver is the asyncio protocol of a TLS connection. It creates no tasks and never awaits. `ending` decides when the
connection ends, `stalls` when a tunnel ends whose peer opens no window, and `openings` holds our own CONNECT requests.

`waypoint.http.h2_connection` drives the same engines for inner connections. Both share the rare cases (`l4.http2`).

`on_request` (server) receives new streams; `open` (client) creates them. New streams are reported after everything that
was read with them, a limited number per turn: a stream that was reset in the same read is never reported
(CVE-2023-44487).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import cast

from l4.config.settings import Settings
from l4.hbone.connect import ConnectRequest
from l4.hbone.ending import Ending
from l4.hbone.errors import ConnectFailed, NotTaken, TunnelReset
from l4.hbone.limits import hbone_limits_of, hbone_reason
from l4.hbone.openings import Openings
from l4.hbone.patience import Patience
from l4.hbone.settings import DrainSettings, HboneSettings
from l4.hbone.stalls import Stalls
from l4.hbone.tunnel import Tunnel
from l4.http2.connection import Connection
from l4.http2.engines import Engine, connect
from l4.http2.errors import ErrorCode
from l4.http2.events import (
    ConnectionFailed,
    DataReceived,
    Event,
    GoawayReceived,
    InformationalReceived,
    PongReceived,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    SettingsChanged,
    StreamReset,
    TrailersReceived,
    WindowOpened,
)
from l4.identity.revocation import Revocations
from l4.identity.tls import is_revoked
from policies.attributes import Headers, Peer

log = logging.getLogger(__name__)

_ALIVE = b"alive???"
"""Nobody waits for the answer to this PING. It distinguishes a peer that is slow to answer CONNECT from a dead one."""

_AT_ONCE = 128 << 10
"""Bytes after which tunnels' data is written: much larger buffers would not stay in the heap (`l4.net.memory`)."""


class Driver(asyncio.Protocol):
    """One side of an HBONE connection.

    `authenticate` checks the TLS peer before any byte is answered, and raises to refuse it. `on_request` receives each
    new stream of a server. `on_refused` receives the reason of each protocol error of the peer. `on_closed` is called
    once, at the end.
    """

    __slots__ = (
        "_authenticate",
        "_blocked",
        "_dirty",
        "_ending",
        "_is_begin_scheduled",
        "_is_closed",
        "_is_ending",
        "_is_flush_scheduled",
        "_is_write_paused",
        "_on_refused",
        "_on_request",
        "_openings",
        "_requests",
        "_settings",
        "_stalls",
        "_tunnels",
        "engine",
        "has_been_used",
        "has_spoken",
        "is_draining",
        "loop",
        "on_closed",
        "on_idle",
        "peer",
        "refusal",
        "transport",
    )

    transport: asyncio.Transport
    peer: Peer

    def __init__(
        self,
        settings: Settings,
        *,
        is_client: bool,
        authenticate: Callable[[asyncio.Transport], Peer],
        on_request: Callable[["Driver", int, Headers], None] | None = None,
        on_closed: Callable[["Driver"], None] | None = None,
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        own = settings.of(HboneSettings)
        self.engine: Connection = connect(
            Engine(own.http2_engine), is_client=is_client, limits=hbone_limits_of(settings)
        )
        self.is_draining = False
        self.has_been_used = False
        self.refusal: Exception | None = None
        self.on_idle: Callable[[Driver], None] | None = None
        self._settings = own
        self._authenticate = authenticate
        self._on_request = on_request
        self._on_refused = on_refused
        self.on_closed = on_closed
        self._tunnels: dict[int, Tunnel] = {}
        self._openings = Openings(self.loop)
        self._dirty: list[Tunnel] = []
        self._blocked: dict[int, Tunnel] = {}
        drain = settings.of(DrainSettings)
        patience = Patience(own, drain)
        self._stalls = Stalls(self.loop, patience, self._cut_stalled)
        self._ending: Ending | None = Ending(self, patience)
        self._requests: list[RequestReceived] = []
        self._is_begin_scheduled = False
        self._is_flush_scheduled = False
        self._is_write_paused = False
        self._is_closed = False
        self._is_ending = False  # the connection closes with its last tunnel
        self.has_spoken = False  # whether the peer sent anything since our last PING or CONNECT

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        try:
            self.peer = self._authenticate(self.transport)
        except Exception as error:
            self.refusal = error
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(self._settings.hbone_write_buffer)
        self.engine.start()
        self.flush_soon()
        if self._ending is not None:
            self._ending.start()

    def data_received(self, data: bytes) -> None:
        self.has_spoken = True
        tunnels = self._tunnels
        for event in self.engine.receive(data, self.loop.time()):
            if type(event) is DataReceived:
                tunnel: Tunnel | None = tunnels.get(event.stream_id)
                if tunnel is None:
                    self.engine.consume(event.stream_id, event.flow_length)
                else:
                    tunnel.received(event)
            else:
                self._handle(event)
        if self._requests and not self._is_begin_scheduled:
            self._begin_requests()
        if not self._is_flush_scheduled:  # what the engine itself answers, usually nothing
            self._flush()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self.flush_soon()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closed = True
        self.is_draining = True
        self._stalls.stop()
        if self._ending is not None:
            self._ending.stop()
            self._ending = None  # breaks a reference cycle that only the garbage collector could free
        why = f"the HBONE connection was lost: {error}" if error else "the HBONE connection was closed"
        for tunnel in list(self._tunnels.values()):
            self._fail(tunnel, TunnelReset(why), ConnectFailed(why))
        if self.on_closed is not None:
            self.on_closed(self)

    # -- for the connection's owner --------------------------------------------------------------------------------

    @property
    def tunnel_count(self) -> int:
        return len(self._tunnels)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def open(
        self, request: ConnectRequest, protocol_factory: Callable[[], asyncio.Protocol]
    ) -> Coroutine[None, None, Tunnel]:
        """Send CONNECT and wait for its 200. The tunnel is connected to its protocol at once, so no byte is missed.

        Raises TunnelRefused, ConnectFailed (the connection ended first), StreamUnavailable (no free stream), or
        TunnelError if the request is invalid.
        """
        return self._openings.open(self, request, protocol_factory)

    def accept(self, stream_id: int, headers: Headers) -> Tunnel | None:
        """Answer a CONNECT with 200. Returns None if its stream has ended in the meantime."""
        tunnel = self._tunnels.get(stream_id)
        if tunnel is not None:
            self.engine.send_headers(stream_id, [(b":status", b"200"), *headers], False)
            self.flush_soon()
        return tunnel

    def refuse(self, stream_id: int, status: int, headers: Headers) -> None:
        """Answer with an error status and end the stream."""
        tunnel = self._tunnels.get(stream_id)
        if tunnel is not None:
            self.engine.send_headers(stream_id, [(b":status", b"%d" % status), *headers], True)
            self.engine.reset(stream_id, ErrorCode.NO_ERROR)
            tunnel.lost(None)
            self.flush_soon()

    def drain(self, *, is_stopping: bool = False) -> None:
        """Accept no new streams, and close when the last one has ended.

        The peer is told first. Its streams are final when its answer to a PING shows that it has read the GOAWAY (RFC
        9113 section 6.8). `is_stopping`: the process is about to exit and does not wait for silent peers.
        """
        if self._ending is None or self.transport.is_closing():
            return
        self.is_draining = True
        if self._ending.drain(is_stopping=is_stopping) and is_stopping:
            self._stalls.begin_anew()

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Close the connection now: send GOAWAY and end all tunnels."""
        if self._is_closed or self.refusal is not None:
            return
        self.is_draining = True
        self.engine.goaway(code)
        self._flush()
        self.transport.close()

    def abort(self) -> None:
        if not self._is_closed:
            self.transport.abort()

    def end_by(self, expires_at: float) -> None:
        """Limit the connection's lifetime to `expires_at`, in seconds of the wall clock."""
        if self._ending is not None:
            self._ending.end_by(expires_at)

    def cut_if_revoked(self, revocations: Revocations) -> None:
        """Close the connection if its peer's certificate has been revoked."""
        if not self._is_closed and is_revoked(self.transport.get_extra_info("ssl_object"), revocations):
            log.info("HBONE connection with %s closed: its certificate is revoked", self.peer)
            self._on_refused("revoked_peer")
            self.abort()

    # -- for tunnels -----------------------------------------------------------------------------------------------

    def mark(self, tunnel: Tunnel) -> None:
        """Note that the tunnel has data to send at the end of this loop turn."""
        self._dirty.append(tunnel)
        self.flush_soon()

    def reset(self, tunnel: Tunnel, code: ErrorCode) -> None:
        self.engine.reset(tunnel.stream_id, code)
        self.flush_soon()

    def block(self, tunnel: Tunnel, has_progressed: bool) -> None:
        """Note that the windows did not allow sending all of the tunnel's data."""
        self._blocked[tunnel.stream_id] = tunnel
        self._stalls.add(tunnel, has_progressed)

    def forget(self, tunnel: Tunnel) -> None:
        if self._tunnels.pop(tunnel.stream_id, None) is None:
            return
        self._blocked.pop(tunnel.stream_id, None)
        self._stalls.since.pop(tunnel, None)
        if not self._tunnels:
            if self._is_ending:
                self.flush_soon()
            elif self.on_idle is not None:
                self.on_idle(self)

    # -- for what opens and ends -----------------------------------------------------------------------------------

    def begin(self, headers: Headers) -> Tunnel:
        """Send a CONNECT. Raises StreamUnavailable."""
        stream_id = self.engine.open_stream(headers, False)
        self.has_been_used = True
        self.has_spoken = False
        self.flush_soon()
        return self._add(stream_id)

    def probe(self) -> None:
        if not self._is_closed and not self.transport.is_closing():
            self.engine.ping(_ALIVE)
            self.flush_soon()

    def flush_soon(self) -> None:
        if not self._is_flush_scheduled and not self._is_closed:
            self._is_flush_scheduled = True
            self.loop.call_soon(self._flush)

    def announce_close(self) -> None:
        for tunnel in list(self._tunnels.values()):
            tunnel.announce_close()

    def end_when_idle(self) -> None:
        """Close the connection when its last tunnel has ended."""
        self._is_ending = True
        self.flush_soon()

    def refused(self, reason: str) -> None:
        self._on_refused(reason)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _add(self, stream_id: int) -> Tunnel:
        tunnel = Tunnel(self, stream_id, self._settings.buffered_bytes, self._settings.resume_bytes)
        self._tunnels[stream_id] = tunnel
        return tunnel

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        if self._is_closed:
            return
        dirty, self._dirty = self._dirty, []
        tunnel: Tunnel
        stalled = self._stalls.since
        held = 0
        for tunnel in dirty:
            tunnel.take_over()  # also if it must wait: its buffer fills, and it is told to pause
            if self._is_write_paused:
                self._dirty.append(tunnel)
                continue
            held += tunnel.get_write_buffer_size()
            if tunnel.push() and stalled:
                stalled.pop(tunnel, None)
            if held > _AT_ONCE:
                held = 0
                self._write()
        if self._is_write_paused:
            self._dirty = list(dict.fromkeys(self._dirty))
            return
        self._write()
        if self._is_ending and not self._tunnels:
            self.transport.close()

    def _write(self) -> None:
        output = self.engine.take_output()
        if output:
            self.transport.write(output)

    def _handle(self, event: Event) -> None:
        match event:
            case WindowOpened(stream_id=0) | SettingsChanged():
                self._dirty.extend(self._blocked.values())
                self._blocked.clear()
            case WindowOpened(stream_id=stream_id):
                blocked = self._blocked.pop(stream_id, None)
                if blocked is not None:
                    self._dirty.append(blocked)
            case RequestReceived():
                self._add(event.stream_id)
                self._requests.append(event)
                if event.end_stream:
                    self._end_of_stream(event.stream_id)
            case ResponseReceived():
                if self._openings.answer(event) and event.end_stream:
                    self._end_of_stream(event.stream_id)
            case StreamReset():
                if not event.by_peer:
                    self._on_refused(hbone_reason(event.reason))
                tunnel = self._tunnels.get(event.stream_id)
                if tunnel is not None:
                    self._reset_received(tunnel, event)
            case TrailersReceived():
                self._end_of_stream(event.stream_id)
            case GoawayReceived():
                self._goaway(event)
            case PongReceived(payload=payload):
                if self._ending is not None:
                    self._ending.pong(payload)
            case ConnectionFailed():
                log.debug("HTTP/2 from %s: %s (%s)", self.peer, event.sentence, event.code.name)
                self._on_refused(hbone_reason(event.reason))
                for tunnel in list(self._tunnels.values()):
                    self._fail(tunnel, TunnelReset(event.sentence, event.code), ConnectFailed(event.sentence))
                self.transport.write(self.engine.take_output())
                self.transport.close()
            case InformationalReceived() | SettingsAcknowledged():
                pass

    def _begin_requests(self) -> None:
        assert self._on_request is not None
        many = self._settings.http2_new_streams_per_turn
        begun, self._requests = self._requests[:many], self._requests[many:]
        for event in begun:
            if event.stream_id in self._tunnels:
                self._on_request(self, event.stream_id, event.headers)
        self._is_begin_scheduled = bool(self._requests)
        if self._requests:
            self.loop.call_soon(self._begin_requests)

    def _end_of_stream(self, stream_id: int) -> None:
        tunnel = self._tunnels.get(stream_id)
        if tunnel is not None:
            tunnel.received(DataReceived(stream_id, b"", 0, True))

    def _goaway(self, event: GoawayReceived) -> None:
        self.is_draining = True
        self.announce_close()
        for stream_id, tunnel in list(self._tunnels.items()):
            if stream_id > event.last_stream_id and stream_id in self._openings:
                why = "the peer is closing the connection and did not accept the tunnel"
                self._fail(tunnel, TunnelReset(why), NotTaken(why))
        if not self._tunnels:
            self._is_ending = True

    def _reset_received(self, tunnel: Tunnel, event: StreamReset) -> None:
        why = f"the peer reset the tunnel with {event.code.name}"
        if tunnel.stream_id in self._openings:
            is_taken = event.code is not ErrorCode.REFUSED_STREAM
            self._fail(tunnel, TunnelReset(why, event.code), ConnectFailed(why) if is_taken else NotTaken(why))
        elif self._on_request is not None and not tunnel.is_started:
            tunnel.lost(TunnelReset(why, event.code))  # before it was accepted, so nobody else reports it
        else:
            tunnel.reset_received(TunnelReset(why, event.code))

    def _fail(self, tunnel: Tunnel, error: TunnelReset, undelivered: ConnectFailed) -> None:
        self._openings.fail(tunnel.stream_id, undelivered)
        tunnel.lost(error)

    def _cut_stalled(self, tunnel: Tunnel, seconds: float) -> None:
        log.info("tunnel with %s reset: its window stayed closed for %g s", self.peer, seconds)
        self._on_refused("stall_seconds")
        self.reset(tunnel, ErrorCode.CANCEL)
        tunnel.lost(TunnelReset(f"the peer opened no window for {seconds:g} s", ErrorCode.CANCEL))
