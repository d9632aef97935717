"""What is fixed when a process starts: timers, sizes and names. Nothing else reads the environment.

Each field has a unit and a reason. A field's variable is its name in capitals; where ztunnel or Istio know the same
setting, theirs is read as well (`_ALIASES`). Sizes are bytes, times are seconds.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


class InvalidSetting(ValueError):
    """Names the variable, what it holds, and what is expected."""


@dataclass(frozen=True, slots=True)
class Settings:
    trust_domain: str = "cluster.local"
    trust_domain_aliases: str = ""
    """More trust domains whose clients are let in, separated by commas (MeshConfig.trustDomainAliases)."""
    cluster_domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"
    network: str = ""
    instance_ip: str = ""
    """Our pod's address, by which we know where we are; not needed where one is listened on."""
    requires_reference_grants: bool = True
    """Whether a backend in another namespace than its route needs a ReferenceGrant there, as the API has it; Istio asks
    for none behind a Service."""

    http2_engine: str = "express"
    """`express`, ours, or `h2`, the library: slower, and the reference in case of doubt."""
    hbone_stream_window: int = 1 << 20
    """What one tunnel may have in flight towards us; a quarter of ztunnel's, because each may have to be buffered."""
    hbone_connection_window: int = 16 << 20
    """ztunnel's value: many times the stream's, so that one tunnel nobody reads cannot stall its neighbours."""
    hbone_max_frame: int = 1 << 20
    """ztunnel's value; larger frames cost less each."""
    hbone_max_streams: int = 200
    """ztunnel's value."""
    hbone_header_list: int = 65_536
    """ztunnel's value."""
    hbone_write_buffer: int = 256 << 10
    """What TLS may hold for a slow peer before tunnels are told to wait."""
    proxy_trusted_addresses: str = ""
    """Addresses and networks, separated by commas, beside loopback, from which the PROXY protocol is believed."""
    ping_interval_seconds: float = 10.0
    ping_timeout_seconds: float = 20.0
    """With the interval: a peer that vanished is noticed within 30 s, as by ztunnel."""
    handshake_seconds: float = 5.0
    max_handshakes: int = 256
    """At once; each costs more than a millisecond of CPU, the rest wait in the kernel's backlog."""
    connect_seconds: float = 10.0
    """TCP, TLS and the answer to CONNECT together; ztunnel's and Istio's value for connecting."""
    pool_streams_per_connection: int = 100
    """ztunnel's value."""
    pool_idle_seconds: float = 300.0
    """ztunnel's value."""
    tcp_keepalive_seconds: int = 180
    tcp_keepalive_probes: int = 9
    """ztunnel's values."""

    http2_premature_resets: int = 200
    """Streams that a client may reset at once while they are young and unanswered: rapid reset, CVE-2023-44487. Envoy
    ends a connection after 250."""
    http2_premature_resets_per_second: int = 33
    """And how many more from then on; nghttp2's value."""
    http2_premature_seconds: float = 1.0
    """Up to this age a stream is young."""
    http2_own_resets: int = 100
    """Mistakes at once that we answer by resetting a stream: MadeYouReset, CVE-2025-8671."""
    http2_own_resets_per_second: int = 10
    """And how many more from then on."""
    http2_head_frames: int = 64
    """HEADERS and CONTINUATION frames of one head (CVE-2024-27316); no more, because the library takes no more."""
    http2_queued_control_frames: int = 1000
    """Answers to PING, SETTINGS and mistakes that wait for a peer that doesn't read; Envoy's value."""
    http2_pings: int = 1000
    """In ten seconds."""
    http2_settings_frames: int = 100
    """In ten seconds."""
    http2_empty_frames: int = 1000
    """DATA and HEADERS that carry nothing, not even the end of their stream, in a minute (CVE-2019-9518)."""
    http2_consecutive_empty_frames: int = 16
    """Such frames in a row."""
    http2_tiny_data_bytes: int = 64
    """DATA is tiny when frames have less than this on average, over the number that follows (CVE-2019-9511)."""
    http2_tiny_data_frames: int = 10_000
    http2_tiny_data_frames_per_second: int = 5000
    """Up to this pace tiny DATA is a chatty client, above it a flood."""
    http2_priority_frames: int = 100
    """For each stream that was opened, and as many without one; priorities are ignored. Envoy's value."""
    http2_window_updates: int = 10
    """For each DATA frame that we sent, and five without one; Envoy's value."""
    http2_new_streams_per_turn: int = 100
    """How many a connection may begin before the others have their turn."""
    max_connections: int = 50_000
    """Accepted by one process; at most 0.4 of its file limit in any case, because each needs another one onwards."""

    memory_limit_bytes: int = 0
    """Near it, load is shed (`l4.net.pressure`); 0: the limit of the cgroup, where there is one."""
    handshakes_per_source: int = 200
    """That one address may begin at once while half of `max_handshakes` are under way: a flood of them from one place
    is turned away before it takes the rest of the processor."""
    handshakes_per_source_per_second: int = 50
    """And how many more from then on."""

    buffered_bytes: int = 64 << 10
    """Per direction of a tunnel: above it the writer is told to pause."""
    resume_bytes: int = 16 << 10
    """Below it the writer may go on."""

    sniff_seconds: float = 5.0
    """How long the client of an undeclared port may take to begin; then it is taken for TCP, where servers may speak
    first (MeshConfig.protocolDetectionTimeout, which is off in Istio)."""
    inner_http2_streams: int = 100
    """Requests at once on one HTTP/2 connection inside of a tunnel; Envoy's value for edges."""
    inner_http2_stream_window: int = 64 << 10
    """What one request may have in flight towards us; more would have to be buffered for a slow endpoint."""
    inner_http2_connection_window: int = 1 << 20
    """Many times the stream's, so that one request nobody reads cannot stall its neighbours."""
    external_auth_seconds: float = 10.0
    """How long an external authorizer is waited for at most, whatever its provider's timeout is: Istio's default of
    600 s would hold every request there is."""
    stall_seconds: float = 300.0
    """For the peer of a stream that takes nothing of what waits for it: then it is reset. Envoy's stream idle time."""

    head_bytes: int = 60 << 10
    """Request line and fields; Envoy's value."""
    head_fields: int = 100
    """Envoy's value."""
    headers_with_underscores: str = "keep"
    """`keep`, `drop` or `reject` what requests have of them, as Envoy's `headers_with_underscores_action`: many
    applications read `x_user` as `x-user`, which may be what a policy judges. Spellings of a header that is taken out
    (`x_forwarded_client_cert`, `content_length`) go whatever this is."""
    extra_methods: str = ""
    """Methods, separated by commas, beside those that are registered for HTTP; `TRACE`, too, only where it is here."""
    head_seconds: float = 10.0
    """For a head that has begun (slowloris); Envoy's is off."""
    empty_lines: int = 2
    """In front of a request, which old clients send after a body (RFC 9112 2.2)."""
    nominated_headers: int = 9
    """How many names Connection may list; Envoy refuses ten."""
    chunk_extension_bytes: int = 4 << 10
    """Of all chunks of a message together; nobody uses them but to smuggle or to flood."""
    pipelined_requests: int = 16
    """How many may wait while another is being answered."""
    pipelined_bytes: int = 64 << 10
    """What those that wait may hold, heads and bodies together."""
    informational_responses: int = 8
    """1xx heads in front of one response."""
    body_grace_seconds: float = 30.0
    """How long a request's body may come at any pace."""
    body_bytes_per_second: int = 102
    """After that, the least average: 1 KiB in 10 s. 0 lets a body be as slow as it likes. Does not concern upgraded
    connections, nor time in which we didn't read."""
    linger_seconds: float = 1.0
    """How long a client whose connection we end may take to read the answer, while what it still sends is ignored;
    Envoy's value."""
    path_normalization: str = "BASE"
    """`NONE`, `BASE`, `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`, as MeshConfig.pathNormalization."""
    idle_http_seconds: float = 3600.0
    """A client's connection without a request; Envoy's value."""
    upstream_idle_http_seconds: float = 60.0
    """A connection to an endpoint without a request; shorter than what common servers allow (75 s), so that it is us
    who close first and no request meets a closing connection."""
    retry_buffer_bytes: int = 64 << 10
    """How much of a request's body is kept so that it can be sent again."""
    max_exchanges: int = 10_000
    """At once in one process; beyond it requests are answered with 503."""
    dns_servers: str = ""
    """Addresses, separated by commas, each with a port if it isn't 53, instead of those in /etc/resolv.conf."""
    dns_timeout_seconds: float = 5.0
    dns_min_seconds: float = 5.0
    dns_max_seconds: float = 300.0
    """An answer is asked for again when its time to live is over, within these bounds."""
    dns_stale_seconds: float = 600.0
    """How long the last answer is used while no new one can be had."""
    max_mirrors: int = 1024
    """Copies of requests that are under way to mirrors at once; beyond it no more are made."""
    mirror_seconds: float = 15.0
    """After this a copy is given up; nobody waits for it."""

    jwks_refresh_seconds: float = 300.0
    """How long fetched keys of tokens' issuers are used before they are asked for again; Envoy's value."""
    jwks_early_seconds: float = 10.0
    """How often at most a token with an unknown key may have them fetched sooner."""
    jwks_retry_seconds: float = 60.0
    """The longest wait, after failures that began with 1 s."""
    jwks_bytes: int = 1 << 20
    """Of one set of keys."""
    jwt_cache_tokens: int = 10_000
    """Whose signatures are known to be good."""
    jwt_cache_bytes: int = 16 << 20
    """Of those tokens together, as they came; in memory each takes a few times more."""

    record_one_in: int = 1
    """One of so many requests is recorded, by chance, where heads of requests are recorded at all."""
    record_bytes: int = 64 << 20
    """Of a recording; one more of this size is kept beside it."""
    record_redacted_names: str = ""
    """Headers and query parameters, separated by commas, whose values are left out of recordings beside those whose
    names sound like credentials."""

    drain_seconds: float = 45.0
    """How long exchanges may take to finish after SIGTERM; Istio's value."""
    drain_delay_seconds: float = 5.0
    """How long new connections are still accepted after SIGTERM, until everybody knows; Istio's value."""
    drain_silence_seconds: float = 10.0
    """While we drain: how long a peer may send nothing, not even the answer to a PING, or take nothing of what waits
    for it. Then it is cut: a frozen client must not hold a process that is to end."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Defaults, overridden by variables. Raises InvalidSetting."""
        values: dict[str, str | int | float | bool] = {}
        for field in dataclasses.fields(cls):
            variable = next((it for it in _variables(field.name) if it in environment), None)
            if variable is not None:
                is_time = field.name.endswith("_seconds")
                values[field.name] = _parse(variable, environment[variable], field.default, is_time=is_time)
        return cls(**values)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        """Raises InvalidSetting for what the protocols, or the parts that use it, could not work with."""
        if self.http2_engine not in {"express", "h2"}:
            raise InvalidSetting(f"HTTP2_ENGINE is {self.http2_engine!r}; it must be express or h2")
        if self.headers_with_underscores not in _UNDERSCORES:
            expected = ", ".join(_UNDERSCORES)
            given = self.headers_with_underscores
            raise InvalidSetting(f"HEADERS_WITH_UNDERSCORES is {given!r}; it must be one of {expected}")
        for method in self.extra_method_names:
            if not _METHOD(method) or method == b"CONNECT":
                advice = "give names in capitals, such as REINDEX, separated by commas"
                raise InvalidSetting(f"EXTRA_METHODS holds {method.decode()!r}; {advice}")
        if self.path_normalization not in _PATH_NORMALIZATIONS:
            expected = ", ".join(_PATH_NORMALIZATIONS)
            raise InvalidSetting(f"PATH_NORMALIZATION is {self.path_normalization!r}; it must be one of {expected}")
        try:
            _ = self.proxy_trusted_networks
        except ValueError as error:
            advice = "give addresses, or networks like 10.0.0.0/8"
            raise InvalidSetting(f"PROXY_TRUSTED_ADDRESSES: {error}; {advice}") from None
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                variables = " or ".join(_variables(name))
                raise InvalidSetting(f"{variables} is {getattr(self, name)}; it must be from {least} to {most}")
        if self.resume_bytes > self.buffered_bytes:
            raise InvalidSetting(f"RESUME_BYTES is {self.resume_bytes}; it must not exceed BUFFERED_BYTES")

    @property
    def proxy_trusted_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        names = (name.strip() for name in self.proxy_trusted_addresses.split(","))
        return tuple(ipaddress.ip_network(name) for name in names if name)

    @property
    def extra_method_names(self) -> frozenset[bytes]:
        """Those of `extra_methods`."""
        names = (name.strip() for name in self.extra_methods.split(","))
        return frozenset(name.encode() for name in names if name)

    @property
    def trust_domains(self) -> frozenset[str]:
        """Our own and the aliases."""
        aliases = (alias.strip() for alias in self.trust_domain_aliases.split(","))
        return frozenset({self.trust_domain, *filter(None, aliases)})


_ALIASES = {
    "hbone_stream_window": ("HTTP2_STREAM_WINDOW_SIZE",),
    "hbone_connection_window": ("HTTP2_CONNECTION_WINDOW_SIZE",),
    "hbone_max_frame": ("HTTP2_FRAME_SIZE",),
    "pool_streams_per_connection": ("POOL_MAX_STREAMS_PER_CONNECTION",),
    "pool_idle_seconds": ("POOL_UNUSED_RELEASE_TIMEOUT",),
    "tcp_keepalive_seconds": ("KEEPALIVE_TIME",),
    "tcp_keepalive_probes": ("KEEPALIVE_RETRIES",),
    "cluster_id": ("ISTIO_META_CLUSTER_ID",),
    "network": ("ISTIO_META_NETWORK",),
}
_RANGES = {
    "hbone_stream_window": (1, 2**31 - 1),
    "hbone_connection_window": (65_535, 2**31 - 1),  # RFC 9113 6.9.2: a connection begins with 65 535, and can't shrink
    "hbone_max_frame": (16_384, 2**24 - 1),  # RFC 9113 6.5.2
    "hbone_max_streams": (1, 2**31 - 1),
    "pool_streams_per_connection": (1, 2**31 - 1),
    "inner_http2_streams": (1, 2**31 - 1),
    "inner_http2_stream_window": (1, 2**31 - 1),
    "inner_http2_connection_window": (65_535, 2**31 - 1),
    "http2_head_frames": (1, 64),
    "http2_new_streams_per_turn": (1, 2**31 - 1),
    "max_connections": (1, 2**31 - 1),
    "max_handshakes": (1, 65_536),
    "max_exchanges": (1, 2**31 - 1),
    "max_mirrors": (0, 2**31 - 1),
    "record_one_in": (1, 2**31 - 1),
    "record_bytes": (1 << 20, 2**63 - 1),
}
_PATH_NORMALIZATIONS = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
_UNDERSCORES = ("keep", "drop", "reject")
_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}").fullmatch
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _variables(name: str) -> tuple[str, ...]:
    return (name.upper(), *_ALIASES.get(name, ()))


def _parse(variable: str, text: str, default: object, *, is_time: bool) -> str | int | float | bool:
    """A value of the default's type; times may carry a unit, as ztunnel's do (`5m`)."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            raise InvalidSetting(f"{variable} is {text!r}; it must be true or false")
        return _BOOLEANS[text.lower()]
    unit = next((unit for unit in _UNITS if is_time and text.endswith(unit)), "")
    try:
        value = float(text.removesuffix(unit)) * _UNITS.get(unit, 1.0) if is_time else int(text)
    except ValueError:
        expected = "seconds, or a time such as 5m" if is_time else "a whole number"
        raise InvalidSetting(f"{variable} is {text!r}; it must be {expected}") from None
    if not 0 <= value < float("inf"):
        raise InvalidSetting(f"{variable} is {text!r}; it must not be negative or endless")
    return int(value) if isinstance(default, int) else value
