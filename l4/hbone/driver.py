"""Drives one HTTP/2 connection over one transport: bytes to the engine, events to tunnels, one write per loop turn.

A Driver is the asyncio protocol of a TLS connection. It creates no tasks and never awaits. It has three timers:

- The keepalive PING: sent `ping_interval_seconds` after the start and after each answer. The connection ends if the
  answer takes more than `ping_timeout_seconds`.
- Stalled tunnels: a tunnel that cannot send a byte for `stall_seconds`, because the peer opens no window, is reset.
- The expiry of the connection's certificates (`lifetime`).

While the process stops, `drain_silence_seconds` replaces the first two times, so that no silent peer delays the exit.

`on_request` (server) receives new streams; `open` (client) creates them. New streams are reported after everything that
was read with them, a limited number per turn: a stream that was reset in the same read is never reported
(CVE-2023-44487).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

from l4.config.settings import Settings
from l4.hbone.connect import ConnectRequest, InvalidConnect
from l4.hbone.errors import ConnectFailed, NotTaken, TunnelError, TunnelRefused, TunnelReset
from l4.hbone.lifetime import Lifetime
from l4.hbone.limits import hbone_limits_of, hbone_reason
from l4.hbone.settings import DrainSettings, HboneSettings
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

_PING = b"waypoint"
_HEARD = b"goaway 1"
"""The answer to this PING shows that the peer has read the GOAWAY before it."""
_ALIVE = b"alive???"
"""Nobody waits for the answer to this PING. It distinguishes a peer that is slow to answer CONNECT from a dead one."""
_PROBE_SECONDS = 1.0
_LAST_STREAM = 2**31 - 1
_CUT_GRACE_SECONDS = 1.0


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
        "_drain",
        "_is_begin_scheduled",
        "_is_closed",
        "_is_ending",
        "_is_flush_scheduled",
        "_is_leaving",
        "_is_stopping",
        "_is_write_paused",
        "_keepalive",
        "_lifetime",
        "_on_refused",
        "_on_request",
        "_requests",
        "_settings",
        "_stall_timer",
        "_stalled",
        "_tunnels",
        "_waiting",
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
        self._drain = settings.of(DrainSettings)
        self._authenticate = authenticate
        self._on_request = on_request
        self._on_refused = on_refused
        self.on_closed = on_closed
        self._tunnels: dict[int, Tunnel] = {}
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._dirty: list[Tunnel] = []
        self._blocked: dict[int, Tunnel] = {}
        self._stalled: dict[int, float] = {}  # blocked tunnels → time of their last progress
        self._stall_timer: asyncio.TimerHandle | None = None
        self._requests: deque[RequestReceived] = deque()
        self._is_begin_scheduled = False
        self._is_flush_scheduled = False
        self._is_write_paused = False
        self._is_closed = False
        self._is_leaving = False  # the peer was told to open no more streams
        self._is_stopping = False  # the process is about to exit
        self._is_ending = False  # new streams are ignored
        self.has_spoken = False  # whether the peer sent anything since our last PING or CONNECT
        self._keepalive: asyncio.TimerHandle | None = None
        self._lifetime: Lifetime | None = None

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
        self._schedule_flush()
        self._keepalive = self.loop.call_later(self._settings.ping_interval_seconds, self._ping)

    def data_received(self, data: bytes) -> None:
        self.has_spoken = True
        for event in self.engine.receive(data, self.loop.time()):
            if type(event) is DataReceived:
                self._data(event)
            else:
                self._handle(event)
        if self._requests and not self._is_begin_scheduled:
            self._begin_requests()
        if not self._is_flush_scheduled:
            self._schedule_flush()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._schedule_flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closed = True
        self.is_draining = True
        for timer in (self._keepalive, self._stall_timer):
            if timer is not None:
                timer.cancel()
        if self._lifetime is not None:
            self._lifetime.end()
            self._lifetime = None  # breaks a reference cycle that only the garbage collector could free
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

    async def open(self, request: ConnectRequest, protocol_factory: Callable[[], asyncio.Protocol]) -> Tunnel:
        """Send CONNECT and wait for its 200. The tunnel is connected to its protocol at once, so no byte is missed.

        Raises TunnelRefused, ConnectFailed (the connection ended first), StreamUnavailable (no free stream), or
        TunnelError if the request is invalid.
        """
        try:
            headers = request.headers()
        except InvalidConnect as error:
            raise TunnelError(str(error)) from None
        stream_id = self.engine.open_stream(headers, False)
        self.has_been_used = True
        tunnel = self._add(stream_id)
        answered = self._waiting[stream_id] = self.loop.create_future()
        self.has_spoken = False
        self._schedule_flush()
        probe = self.loop.call_later(_PROBE_SECONDS, self._probe)
        try:
            await answered
        except BaseException:
            if stream_id in self._tunnels:
                tunnel.abort()
            raise
        finally:
            probe.cancel()
            self._waiting.pop(stream_id, None)
        tunnel.start(protocol_factory())
        return tunnel

    def accept(self, stream_id: int, headers: Headers) -> Tunnel | None:
        """Answer a CONNECT with 200. Returns None if its stream has ended in the meantime."""
        tunnel = self._tunnels.get(stream_id)
        if tunnel is not None:
            self.engine.send_headers(stream_id, [(b":status", b"200"), *headers], False)
            self._schedule_flush()
        return tunnel

    def refuse(self, stream_id: int, status: int, headers: Headers) -> None:
        """Answer with an error status and end the stream."""
        tunnel = self._tunnels.get(stream_id)
        if tunnel is not None:
            self.engine.send_headers(stream_id, [(b":status", b"%d" % status), *headers], True)
            self.engine.reset(stream_id, ErrorCode.NO_ERROR)
            tunnel.lost(None)
            self._schedule_flush()

    def drain(self, *, is_stopping: bool = False) -> None:
        """Accept no new streams, and close when the last one has ended.

        The peer is told first. Its streams are final when its answer to a PING shows that it has read the GOAWAY (RFC
        9113 section 6.8). `is_stopping`: the process is about to exit and does not wait for silent peers.
        """
        if self._is_closed or self.transport.is_closing() or (self._is_leaving and self._is_stopping == is_stopping):
            return
        self._is_stopping = is_stopping or self._is_stopping
        if not self._is_leaving:
            self.is_draining = self._is_leaving = True
            self.engine.goaway(ErrorCode.NO_ERROR, last_stream_id=_LAST_STREAM)
        self._ping()
        if self._is_stopping and self._stalled:
            self._stalled = dict.fromkeys(self._stalled, self.loop.time())
            if self._stall_timer is not None:
                self._stall_timer.cancel()
            self._stall_timer = self.loop.call_later(self._stall_seconds, self._cut_stalled)

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
        if not self._is_closed:
            self._lifetime = Lifetime(expires_at, self._drain.drain_seconds, self._outdated, self._expired)

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
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self.loop.call_soon(self._flush)

    def reset(self, tunnel: Tunnel, code: ErrorCode) -> None:
        self.engine.reset(tunnel.stream_id, code)
        self._schedule_flush()

    def block(self, tunnel: Tunnel, has_progressed: bool) -> None:
        """Note that the windows did not allow sending all of the tunnel's data."""
        now = self.loop.time()
        self._blocked[tunnel.stream_id] = tunnel
        if has_progressed or tunnel.stream_id not in self._stalled:
            self._stalled[tunnel.stream_id] = now
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_at(now + self._stall_seconds, self._cut_stalled)

    def forget(self, tunnel: Tunnel) -> None:
        if self._tunnels.pop(tunnel.stream_id, None) is None:
            return
        self._blocked.pop(tunnel.stream_id, None)
        self._stalled.pop(tunnel.stream_id, None)
        if not self._tunnels:
            if self._is_ending:
                self._schedule_flush()
            elif self.on_idle is not None:
                self.on_idle(self)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _add(self, stream_id: int) -> Tunnel:
        tunnel = Tunnel(self, stream_id, self._settings.buffered_bytes, self._settings.resume_bytes)
        self._tunnels[stream_id] = tunnel
        return tunnel

    def _schedule_flush(self) -> None:
        if not self._is_flush_scheduled and not self._is_closed:
            self._is_flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        if self._is_closed or self._is_write_paused:
            return
        dirty = self._dirty
        if dirty:
            self._dirty = []
            tunnel: Tunnel
            for tunnel in dirty:
                if tunnel.push() and self._stalled:
                    self._stalled.pop(tunnel.stream_id, None)
        output = self.engine.take_output()
        if output:
            self.transport.write(output)
        if self._is_ending and not self._tunnels:
            self.transport.close()

    def _data(self, event: DataReceived) -> None:
        tunnel: Tunnel | None = self._tunnels.get(event.stream_id)
        if tunnel is None:
            self.engine.consume(event.stream_id, event.flow_length)
        else:
            tunnel.received(event)

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
                self._response(event)
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
                if payload in {_PING, _HEARD}:
                    self._pong(payload)
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
        for _ in range(min(len(self._requests), self._settings.http2_new_streams_per_turn)):
            event = self._requests.popleft()
            if event.stream_id in self._tunnels:
                self._on_request(self, event.stream_id, event.headers)
        self._is_begin_scheduled = bool(self._requests)
        if self._requests:
            self.loop.call_soon(self._begin_requests)

    def _response(self, event: ResponseReceived) -> None:
        answered = self._waiting.get(event.stream_id)
        if answered is None or answered.done():
            return
        status = int(dict(event.headers)[b":status"])
        if 200 <= status < 300:
            answered.set_result(None)
            if event.end_stream:
                self._end_of_stream(event.stream_id)
        else:
            answered.set_exception(TunnelRefused(f"the far side answered CONNECT with {status}", status))

    def _end_of_stream(self, stream_id: int) -> None:
        tunnel = self._tunnels.get(stream_id)
        if tunnel is not None:
            tunnel.received(DataReceived(stream_id, b"", 0, True))

    def _goaway(self, event: GoawayReceived) -> None:
        self.is_draining = True
        self._announce_close()
        for stream_id, tunnel in list(self._tunnels.items()):
            if stream_id > event.last_stream_id and stream_id in self._waiting:
                why = "the peer is closing the connection and did not accept the tunnel"
                self._fail(tunnel, TunnelReset(why), NotTaken(why))
        if not self._tunnels:
            self._is_ending = True

    def _reset_received(self, tunnel: Tunnel, event: StreamReset) -> None:
        why = f"the peer reset the tunnel with {event.code.name}"
        if tunnel.stream_id in self._waiting:
            is_taken = event.code is not ErrorCode.REFUSED_STREAM
            self._fail(tunnel, TunnelReset(why, event.code), ConnectFailed(why) if is_taken else NotTaken(why))
        elif self._on_request is not None and not tunnel.is_started:
            tunnel.lost(TunnelReset(why, event.code))  # before it was accepted, so nobody else reports it
        else:
            tunnel.reset_received(TunnelReset(why, event.code))

    def _fail(self, tunnel: Tunnel, error: TunnelReset, undelivered: ConnectFailed) -> None:
        answered = self._waiting.get(tunnel.stream_id)
        if answered is not None and not answered.done():
            answered.set_exception(undelivered)
        tunnel.lost(error)

    def _cut_stalled(self) -> None:
        self._stall_timer = None
        now, stall_seconds = self.loop.time(), self._stall_seconds
        for stream_id, since in list(self._stalled.items()):
            tunnel = self._tunnels[stream_id]
            if not tunnel.get_write_buffer_size():  # reset by the peer, and not yet read to the end
                del self._stalled[stream_id]
            elif now - since >= stall_seconds:
                log.info("tunnel with %s reset: its window stayed closed for %g s", self.peer, stall_seconds)
                self._on_refused("stall_seconds")
                self.reset(tunnel, ErrorCode.CANCEL)
                tunnel.lost(TunnelReset(f"the peer opened no window for {stall_seconds:g} s", ErrorCode.CANCEL))
        if self._stalled:
            due = min(self._stalled.values()) + stall_seconds
            self._stall_timer = self.loop.call_at(due, self._cut_stalled)

    def _outdated(self) -> None:
        self.drain()
        self._announce_close()

    def _announce_close(self) -> None:
        for tunnel in list(self._tunnels.values()):
            tunnel.announce_close()

    def _expired(self) -> None:
        log.info("HBONE connection with %s closed: its certificate or ours has expired", self.peer)
        self._on_refused("expired_certificate")
        self.close()
        self.loop.call_later(_CUT_GRACE_SECONDS, self.abort)  # in case the peer reads nothing

    def _last_goaway(self) -> None:
        if not self._is_closed and not self._is_ending:
            self.engine.goaway(ErrorCode.NO_ERROR)
            self._is_ending = True
            self._schedule_flush()

    @property
    def _stall_seconds(self) -> float:
        return self._within(self._settings.stall_seconds)

    def _within(self, seconds: float) -> float:
        return min(seconds, self._drain.drain_silence_seconds) if self._is_stopping else seconds

    def _probe(self) -> None:
        if not self._is_closed and not self.transport.is_closing():
            self.engine.ping(_ALIVE)
            self._schedule_flush()

    def _ping(self) -> None:
        self.engine.ping(_HEARD if self._is_leaving else _PING)
        self._schedule_flush()
        self.has_spoken = False
        self._expect(self._within(self._settings.ping_timeout_seconds), self._silence)

    def _pong(self, payload: bytes) -> None:
        if self._is_leaving and payload == _PING:
            return  # this PING was sent before the GOAWAY
        if payload == _HEARD:
            self._last_goaway()
        self._expect(self._within(self._settings.ping_interval_seconds), self._ping)

    def _expect(self, seconds: float, call: Callable[[], None]) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._keepalive = self.loop.call_later(seconds, call)

    def _silence(self) -> None:
        seconds = self._within(self._settings.ping_timeout_seconds)
        if self._is_stopping and self.has_spoken:  # the peer is alive, and will see the PING after the data before it
            self._last_goaway()
            self.has_spoken = False
            self._expect(seconds, self._silence)
            return
        log.info("HBONE connection with %s closed: no answer to PING within %g s", self.peer, seconds)
        self.transport.abort()
