"""HTTP/2 clients and origins for tests, on the h2 library. They do what a test sets, and record what they receive."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes, Settings

from l4.http2 import frames
from policies.attributes import Header, Headers
from tests.kit.mesh import settled

AUTHORITY = b"app"


@dataclass
class Seen:
    """One stream, as the peer received it."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    informational: list[dict[bytes, bytes]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    has_ended: bool = False
    reset: ErrorCodes | None = None

    @property
    def status(self) -> int:
        return int(self.headers.get(b":status", b"0"))

    @property
    def is_over(self) -> bool:
        return self.has_ended or self.reset is not None


Act = Callable[["Http2Peer", int], None]


class Http2Peer(asyncio.Protocol):
    """`on_request` is called with a request's head, `on_end` at the end of the request. While `is_reading` is False, no
    flow control window is given back. `goaways` holds the last stream of each GOAWAY."""

    def __init__(
        self,
        *,
        is_client: bool,
        on_request: Act | None = None,
        on_end: Act | None = None,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        config = H2Configuration(
            client_side=is_client,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = H2Connection(config)
        self.h2.local_settings = Settings(client=is_client, initial_values=settings)
        self.streams: dict[int, Seen] = {}
        self.goaways: list[int] = []
        self._buffer = b""
        self._preface_left = 0 if is_client else len(frames.PREFACE)
        self.settings_seen = False
        self.is_reading = True
        self.is_lost = False
        self._unread: list[tuple[int, int]] = []
        self._waiting: dict[int, tuple[bytes, bool]] = {}
        self._on_request = on_request
        self._on_end = on_end

    # -- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(self._without_goaways(data)):
            self._handle(event)
        for stream_id in list(self._waiting):
            self._push(stream_id)
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True

    # -- what a test does ------------------------------------------------------------------------------------------

    def request(
        self,
        method: bytes = b"GET",
        path: bytes = b"/",
        headers: Iterable[Header] = (),
        body: bytes | None = None,
        *,
        is_open: bool = False,
    ) -> int:
        """Send a request, with a body if there is one. Without a body, the stream stays open for POST or if
        requested."""
        stream_id = self.h2.get_next_available_stream_id()
        head = [(b":method", method), (b":scheme", b"http"), (b":authority", AUTHORITY), (b":path", path), *headers]
        self.streams[stream_id] = Seen()
        self.h2.send_headers(stream_id, head, end_stream=body is None and method != b"POST" and not is_open)
        if body is not None:
            self.send(stream_id, body, end=True)
        self.flush()
        return stream_id

    def connect(self, headers: Headers) -> int:
        """Send CONNECT. The stream stays open."""
        stream_id = self.h2.get_next_available_stream_id()
        self.streams[stream_id] = Seen()
        self.h2.send_headers(stream_id, [(b":method", b"CONNECT"), *headers])
        self.flush()
        return stream_id

    def respond(
        self, stream_id: int, status: int = 200, headers: Iterable[Header] = (), body: bytes | None = b"hello"
    ) -> None:
        self.h2.send_headers(stream_id, [(b":status", b"%d" % status), *headers], end_stream=body == b"")
        if body:
            self.send(stream_id, body, end=True)
        self.flush()

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send as much as the windows allow, now and later."""
        self._waiting[stream_id] = (self._waiting.get(stream_id, (b"", False))[0] + data, end)
        self._push(stream_id)
        self.flush()

    def trailers(self, stream_id: int, headers: Headers) -> None:
        self.h2.send_headers(stream_id, headers, end_stream=True)
        self.flush()

    def reset(self, stream_id: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        self.h2.reset_stream(stream_id, code)
        self.flush()

    def read_on(self) -> None:
        """Give back the window of all unread data, and read from now on."""
        self.is_reading = True
        for length, stream_id in self._unread:
            self._acknowledge(length, stream_id)
        self._unread.clear()
        self.flush()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.is_lost:
            self.transport.write(data)

    async def answer(self, stream_id: int) -> Seen:
        """Return the stream once it is over."""
        await settled(lambda: self.streams[stream_id].is_over, 10)
        return self.streams[stream_id]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _without_goaways(self, data: bytes) -> bytes:
        """Hide GOAWAY from the library, which would treat the connection as closed; active streams go on."""
        if self._preface_left:
            preface, data = data[: self._preface_left], data[self._preface_left :]
            self._preface_left -= len(preface)
            return preface + (self._without_goaways(data) if data else b"")
        data, self._buffer = self._buffer + data, b""
        kept = []
        while len(data) >= 9:
            high, low, kind, _, _ = frames.HEAD.unpack_from(data)
            length = 9 + (high << 8 | low)
            if len(data) < length:
                break
            if kind == frames.GOAWAY:
                self.goaways.append(int.from_bytes(data[9:13]))
            else:
                kept.append(data[:length])
            data = data[length:]
        self._buffer = data
        return b"".join(kept)

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived():
                self.streams[event.stream_id] = Seen(dict(event.headers))
                if self._on_request is not None:
                    self._on_request(self, event.stream_id)
            case events.ResponseReceived():
                self.streams[event.stream_id].headers = dict(event.headers)
            case events.InformationalResponseReceived():
                self.streams[event.stream_id].informational.append(dict(event.headers))
            case events.TrailersReceived():
                self.streams[event.stream_id].trailers = dict(event.headers)
            case events.DataReceived():
                self.streams[event.stream_id].data += event.data
                if self.is_reading:
                    self._acknowledge(event.flow_controlled_length, event.stream_id)
                else:
                    self._unread.append((event.flow_controlled_length, event.stream_id))
            case events.StreamEnded():
                self.streams[event.stream_id].has_ended = True
                if self._on_end is not None:
                    self._on_end(self, event.stream_id)
            case events.StreamReset():
                self.streams[event.stream_id].reset = ErrorCodes(event.error_code)
                self._waiting.pop(event.stream_id, None)
            case events.RemoteSettingsChanged():
                self.settings_seen = True
            case _:
                pass

    def _acknowledge(self, length: int, stream_id: int) -> None:
        try:
            self.h2.acknowledge_received_data(length, stream_id)
        except StreamClosedError:
            self.h2.increment_flow_control_window(length)

    def _push(self, stream_id: int) -> None:
        data, end = self._waiting.pop(stream_id)
        while data and (room := min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)) > 0:
            self.h2.send_data(stream_id, data[:room])
            data = data[room:]
        if data:
            self._waiting[stream_id] = (data, end)
        elif end:
            self.h2.end_stream(stream_id)


@asynccontextmanager
async def http2_client(
    at: tuple[str, int], *, settings: dict[SettingCodes, int] | None = None
) -> AsyncIterator[Http2Peer]:
    """Yield a client that has received the server's SETTINGS."""
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(lambda: Http2Peer(is_client=True, settings=settings), *at)
    try:
        await settled(lambda: peer.settings_seen)
        yield peer
    finally:
        peer.transport.close()
        await settled(lambda: peer.is_lost)


@dataclass
class Http2Origin:
    """`peers` holds the connections in order of arrival."""

    peers: list[Http2Peer] = field(default_factory=list)

    @property
    def requests(self) -> list[Seen]:
        return [seen for peer in self.peers for seen in peer.streams.values()]


@asynccontextmanager
async def http2_origin(
    ip: str,
    *,
    on_request: Act | None = None,
    on_end: Act | None = None,
    settings: dict[SettingCodes, int] | None = None,
    port: int = 9080,
) -> AsyncIterator[Http2Origin]:
    """An application that speaks only HTTP/2. By default it answers 200 and `hello` at the end of a request."""
    seen = Http2Origin()
    if on_request is None and on_end is None:
        on_end = Http2Peer.respond

    def connected() -> Http2Peer:
        peer = Http2Peer(is_client=False, on_request=on_request, on_end=on_end, settings=settings)
        seen.peers.append(peer)
        return peer

    server = await asyncio.get_running_loop().create_server(connected, ip, port)
    try:
        yield seen
    finally:
        server.close()
        for peer in seen.peers:
            peer.transport.close()
        await server.wait_closed()
