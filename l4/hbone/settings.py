"""Settings of HBONE connections, and of draining."""

from dataclasses import dataclass

from l4.config.settings import InvalidSetting, Section, setting


@dataclass(frozen=True, slots=True)
class HboneSettings(Section):
    title = "HBONE connections"

    http2_engine: str = setting("express", choices=("express", "h2"))
    """`express` is our own engine. `h2` is the library: slower, and the reference in case of doubt."""
    hbone_stream_window: int = setting(1 << 20, least=1, most=2**31 - 1, aliases=("HTTP2_STREAM_WINDOW_SIZE",))
    """Flow-control window of one tunnel, bytes. A quarter of ztunnel's, because a full window may have to be
    buffered."""
    hbone_connection_window: int = setting(
        16 << 20, least=65_535, most=2**31 - 1, aliases=("HTTP2_CONNECTION_WINDOW_SIZE",)
    )
    """Flow-control window of one connection, bytes; ztunnel's value. Many times the stream's, so that one tunnel that
    nobody reads cannot stall the others."""
    hbone_max_frame: int = setting(1 << 20, least=16_384, most=2**24 - 1, aliases=("HTTP2_FRAME_SIZE",))
    """Largest frame, bytes; ztunnel's value. Larger frames cost less for each byte."""
    hbone_max_streams: int = setting(200, least=1, most=2**31 - 1)
    """Tunnels at once on one connection; ztunnel's value."""
    hbone_header_list: int = 65_536
    """Largest head of a CONNECT, bytes; ztunnel's value."""
    hbone_header_fields: int = 100
    """Fields of the head of a CONNECT; Envoy's value for any head."""
    hbone_write_buffer: int = 256 << 10
    """Bytes that TLS may hold for a slow peer before its tunnels pause."""
    http2_new_streams_per_turn: int = setting(100, least=1, most=2**31 - 1)
    """Streams that one connection may begin before others have their turn."""
    ping_interval_seconds: float = 10.0
    """Time between two PINGs on a connection."""
    ping_timeout_seconds: float = 20.0
    """Time for the answer to a PING. With the interval, a vanished peer is noticed within 30 s, as by ztunnel."""
    stall_seconds: float = 300.0
    """Time after which a stream is reset whose peer takes nothing of what waits for it; Envoy's stream idle time."""
    buffered_bytes: int = 64 << 10
    """Bytes buffered in one direction of a tunnel above which its writer pauses."""
    resume_bytes: int = 16 << 10
    """Bytes buffered below which the writer goes on."""
    max_connections: int = setting(50_000, least=1, most=2**31 - 1)
    """Connections accepted by one process. At most 0.4 of its file limit in any case, because each needs another
    descriptor onwards."""
    max_handshakes: int = setting(256, least=1, most=65_536)
    """TLS handshakes at once. Each costs more than a millisecond of CPU; the rest wait in the kernel's backlog."""
    handshake_seconds: float = 5.0
    """Time for a TLS handshake."""
    handshakes_per_source: int = 200
    """Burst of handshakes from one address while half of `max_handshakes` are under way. A flood from one place is
    turned away before it takes the rest of the processor. While all are, an address keeps an eighth of them, and
    others of its handshakes end after 1 s."""
    handshakes_per_source_per_second: int = 50
    """Refill rate of `handshakes_per_source`, per second."""
    connect_seconds: float = 10.0
    """Time for TCP, TLS and the answer to CONNECT together; ztunnel's and Istio's value."""
    pool_streams_per_connection: int = setting(
        100, least=1, most=2**31 - 1, aliases=("POOL_MAX_STREAMS_PER_CONNECTION",)
    )
    """Tunnels on one connection to a peer before another one is opened; ztunnel's value."""
    pool_idle_seconds: float = setting(300.0, aliases=("POOL_UNUSED_RELEASE_TIMEOUT",))
    """Life of a connection without tunnels; ztunnel's value."""
    tcp_keepalive_seconds: int = setting(180, aliases=("KEEPALIVE_TIME",))
    """Idle time before the first TCP keep-alive probe, and between two; ztunnel's value."""
    tcp_keepalive_probes: int = setting(9, aliases=("KEEPALIVE_RETRIES",))
    """Unanswered probes that end a connection; ztunnel's value."""

    def check(self) -> None:
        if self.resume_bytes > self.buffered_bytes:
            raise InvalidSetting(f"RESUME_BYTES is {self.resume_bytes}; it must not exceed BUFFERED_BYTES")


@dataclass(frozen=True, slots=True)
class DrainSettings(Section):
    title = "Stopping"

    drain_seconds: float = 45.0
    """Time for requests to finish after SIGTERM; Istio's value."""
    drain_silence_seconds: float = 10.0
    """While we drain: how long a peer may send nothing, not even the answer to a PING, or take nothing of what waits
    for it. Then it is cut: a frozen client must not hold a process that is to end."""
