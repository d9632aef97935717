"""What is fixed when a process starts: timers, sizes and names. Nothing else reads the environment.

A feature declares its settings in a section beside it. Each setting has a default, a unit and, in the docstring below
it, a reason. Sizes are bytes, times are seconds:

    @dataclass(frozen=True, slots=True)
    class DnsSettings(Section):
        title = "DNS"

        dns_min_seconds: float = setting(5.0, least=1.0)
        \"""Shortest time after which a name is asked for again, whatever its time to live is.\"""

A setting's variable is its name in capitals; where ztunnel or Istio know the same setting, `aliases` names their
variables. A program lists its sections once: those of a waypoint are listed in `waypoint/settings.py`. Whoever needs
settings takes the section when it is made, `settings.of(DnsSettings)`, and keeps it: what follows is attribute access
on a frozen object. `make docs` writes the titles, names, defaults and docstrings to `docs/settings.md`.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar, cast


class InvalidSetting(ValueError):
    """Names the variable, what it holds, and what is expected."""


T = TypeVar("T")
S = TypeVar("S", bound="Section")


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a setting may hold, beside the type of its default."""

    least: float
    most: float
    choices: tuple[str, ...]
    aliases: tuple[str, ...]


_ANY = _Rules(-float("inf"), float("inf"), (), ())


def setting(
    default: T,
    *,
    least: float = _ANY.least,
    most: float = _ANY.most,
    choices: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
) -> T:
    """A setting that has bounds, a choice of words, or other names. Any other one is a field with its default."""
    return field(default=default, metadata={_Rules: _Rules(least, most, choices, aliases)})


class Section:
    """Settings that belong together. Subclasses are frozen dataclasses, whose fields have docstrings."""

    __slots__ = ()
    title: ClassVar[str]
    """The heading in `docs/settings.md`."""

    def __post_init__(self) -> None:
        """Raises InvalidSetting for what is out of bounds."""
        for it in dataclasses.fields(cast("Any", self)):
            rules, value = _rules(it), getattr(self, it.name)
            if rules.choices and value not in rules.choices:
                expected = ", ".join(rules.choices)
                raise InvalidSetting(f"{it.name.upper()} is {value!r}; it must be one of {expected}")
            if not isinstance(value, str) and not rules.least <= value <= rules.most:
                names = " or ".join(variables_of(it))
                raise InvalidSetting(f"{names} is {value}; it must be from {rules.least} to {rules.most}")
        self.check()

    def check(self) -> None:
        """Raises InvalidSetting for what bounds and choices do not say."""


def variables_of(it: "dataclasses.Field[Any]") -> tuple[str, ...]:
    """The environment variables of a field; the first that is set counts."""
    return (it.name.upper(), *_rules(it).aliases)


def _rules(it: "dataclasses.Field[Any]") -> _Rules:
    return cast("_Rules", it.metadata.get(_Rules, _ANY))


def read(section: type[S], environment: Mapping[str, str]) -> S:
    """A section's defaults, overridden by variables. Raises InvalidSetting."""
    values = {}
    for it in dataclasses.fields(cast("Any", section)):
        variable = next((name for name in variables_of(it) if name in environment), None)
        if variable is not None:
            is_time = it.name.endswith("_seconds")
            values[it.name] = _parse(variable, environment[variable], it.default, is_time=is_time)
    return section(**values)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a program."""

    sections: Mapping[type[Section], Section] = field(default_factory=dict)

    # -- the mesh
    trust_domain: str = "cluster.local"
    """The trust domain of this mesh: the first part of every identity."""
    trust_domain_aliases: str = ""
    """Further trust domains whose clients are let in, separated by commas (MeshConfig.trustDomainAliases)."""
    cluster_domain: str = "cluster.local"
    """The DNS suffix of Services."""
    cluster_id: str = "Kubernetes"
    """The cluster's name in metrics and in workloads' identifiers."""
    network: str = ""
    """The network that this process is in."""
    instance_ip: str = ""
    """The address of this process's pod, which tells its locality. Not needed where the process listens on it."""
    requires_reference_grants: bool = False
    """Whether a backend in another namespace than its route needs a ReferenceGrant there. Routes of a mesh need none
    (GEP-1294): who may call a service is for its own AuthorizationPolicies to say."""

    # -- HBONE connections
    http2_engine: str = "express"
    """`express` is our own engine. `h2` is the library: slower, and the reference in case of doubt."""
    hbone_stream_window: int = 1 << 20
    """Flow-control window of one tunnel, bytes. A quarter of ztunnel's, because a full window may have to be
    buffered."""
    hbone_connection_window: int = 16 << 20
    """Flow-control window of one connection, bytes; ztunnel's value. Many times the stream's, so that one tunnel that
    nobody reads cannot stall the others."""
    hbone_max_frame: int = 1 << 20
    """Largest frame, bytes; ztunnel's value. Larger frames cost less for each byte."""
    hbone_max_streams: int = 200
    """Tunnels at once on one connection; ztunnel's value."""
    hbone_header_list: int = 65_536
    """Largest head of a CONNECT, bytes; ztunnel's value."""
    hbone_write_buffer: int = 256 << 10
    """Bytes that TLS may hold for a slow peer before its tunnels pause."""
    proxy_trusted_addresses: str = ""
    """Addresses and networks, separated by commas, from which the PROXY protocol is believed. Loopback always is."""
    ping_interval_seconds: float = 10.0
    """Time between two PINGs on a connection."""
    ping_timeout_seconds: float = 20.0
    """Time for the answer to a PING. With the interval, a vanished peer is noticed within 30 s, as by ztunnel."""
    handshake_seconds: float = 5.0
    """Time for a TLS handshake."""
    max_handshakes: int = 256
    """TLS handshakes at once. Each costs more than a millisecond of CPU; the rest wait in the kernel's backlog."""
    handshakes_per_source: int = 200
    """Burst of handshakes from one address while half of `max_handshakes` are under way. A flood from one place is
    turned away before it takes the rest of the processor. While all are, an address keeps an eighth of them, and
    others of its handshakes end after 1 s."""
    handshakes_per_source_per_second: int = 50
    """Refill rate of `handshakes_per_source`, per second."""
    connect_seconds: float = 10.0
    """Time for TCP, TLS and the answer to CONNECT together; ztunnel's and Istio's value."""
    pool_streams_per_connection: int = 100
    """Tunnels on one connection to a peer before another one is opened; ztunnel's value."""
    pool_idle_seconds: float = 300.0
    """Life of a connection without tunnels; ztunnel's value."""
    tcp_keepalive_seconds: int = 180
    """Idle time before the first TCP keep-alive probe, and between two; ztunnel's value."""
    tcp_keepalive_probes: int = 9
    """Unanswered probes that end a connection; ztunnel's value."""

    # -- limits of HTTP/2
    http2_premature_resets: int = 200
    """Burst of streams that a client may reset while they are young and unanswered: rapid reset, CVE-2023-44487. Envoy
    ends a connection after 250."""
    http2_premature_resets_per_second: int = 33
    """Refill rate of `http2_premature_resets`, per second; nghttp2's value."""
    http2_premature_seconds: float = 1.0
    """Age up to which a stream is young."""
    http2_own_resets: int = 100
    """Burst of a client's mistakes that we answer by resetting a stream: MadeYouReset, CVE-2025-8671."""
    http2_own_resets_per_second: int = 10
    """Refill rate of `http2_own_resets`, per second."""
    http2_head_frames: int = 64
    """HEADERS and CONTINUATION frames of one head (CVE-2024-27316). No more, because the library takes no more."""
    http2_queued_control_frames: int = 1000
    """Answers to PING, SETTINGS and mistakes that wait for a peer that doesn't read; Envoy's value."""
    http2_pings: int = 1000
    """PING frames in ten seconds."""
    http2_settings_frames: int = 100
    """SETTINGS frames in ten seconds."""
    http2_empty_frames: int = 1000
    """DATA and HEADERS frames in a minute that carry nothing, not even the end of their stream (CVE-2019-9518)."""
    http2_consecutive_empty_frames: int = 16
    """Such frames in a row."""
    http2_tiny_data_bytes: int = 64
    """Average size below which DATA frames are tiny (CVE-2019-9511)."""
    http2_tiny_data_frames: int = 10_000
    """Burst of tiny DATA frames."""
    http2_tiny_data_frames_per_second: int = 5000
    """Refill rate of `http2_tiny_data_frames`, per second. Up to this pace a client is chatty, above it it floods."""
    http2_priority_frames: int = 100
    """PRIORITY frames for each stream that was opened, and as many without one; Envoy's value. We ignore
    priorities."""
    http2_window_updates: int = 10
    """WINDOW_UPDATE frames for each DATA frame that we sent, and five without one; Envoy's value."""
    http2_new_streams_per_turn: int = 100
    """Streams that one connection may begin before others have their turn."""
    max_connections: int = 50_000
    """Connections accepted by one process. At most 0.4 of its file limit in any case, because each needs another
    descriptor onwards."""

    # -- memory and buffers
    memory_limit_bytes: int = 0
    """Memory near which load is shed (`l4.net.pressure`). 0: the limit of the cgroup, where there is one."""
    buffered_bytes: int = 64 << 10
    """Bytes buffered in one direction of a tunnel above which its writer pauses."""
    resume_bytes: int = 16 << 10
    """Bytes buffered below which the writer goes on."""

    # -- HTTP
    sniff_seconds: float = 5.0
    """Time for the client of an undeclared port to begin. Then the port carries TCP, where servers may speak first
    (MeshConfig.protocolDetectionTimeout, which is off in Istio)."""
    inner_http2_streams: int = 100
    """Requests at once on one HTTP/2 connection inside a tunnel; Envoy's value for edges."""
    inner_http2_stream_window: int = 64 << 10
    """Flow-control window of one request, bytes. More would have to be buffered for a slow endpoint."""
    inner_http2_connection_window: int = 1 << 20
    """Flow-control window of one HTTP/2 connection inside a tunnel, bytes. Many times the stream's, so that one request
    that nobody reads cannot stall the others."""
    external_auth_seconds: float = 10.0
    """Longest wait for an external authorizer, whatever its provider's timeout is. Istio's default of 600 s would hold
    every request there is."""
    stall_seconds: float = 300.0
    """Time after which a stream is reset whose peer takes nothing of what waits for it; Envoy's stream idle time."""
    head_bytes: int = 60 << 10
    """Size of a request's line and fields, bytes; Envoy's value."""
    head_fields: int = 100
    """Fields of a head; Envoy's value."""
    accept_http_10: bool = False
    """Whether requests of HTTP/1.0 are served (an old nginx speaks it to its upstreams by default), as Envoy's
    `accept_http_10`; else they get 426. They need a Host; answers are in that version, without chunks."""
    headers_with_underscores: str = "keep"
    """`keep`, `drop` or `reject` what requests have of them, as Envoy's `headers_with_underscores_action`: many
    applications read `x_user` as `x-user`, which may be what a policy judges. Spellings of a header that is taken out
    (`x_forwarded_client_cert`, `content_length`) go whatever this is."""
    extra_methods: str = ""
    """Methods, separated by commas, beside those that are registered for HTTP; `TRACE`, too, only where it is here."""
    head_seconds: float = 10.0
    """Time for a head that has begun (slowloris); Envoy's is off."""
    empty_lines: int = 2
    """Empty lines in front of a request, which old clients send after a body (RFC 9112 section 2.2)."""
    nominated_headers: int = 9
    """Names that the Connection header may list; Envoy refuses ten."""
    chunk_extension_bytes: int = 4 << 10
    """Size of all chunk extensions of a message, bytes. They serve nobody but smugglers and flooders."""
    pipelined_requests: int = 16
    """Requests that may wait on a connection while another is answered."""
    pipelined_bytes: int = 64 << 10
    """Size of those that wait, heads and bodies together, bytes."""
    informational_responses: int = 8
    """1xx heads in front of one response."""
    body_grace_seconds: float = 30.0
    """Time in which a request's body may come at any pace."""
    body_bytes_per_second: int = 102
    """Least average pace of a body after that: 1 KiB in 10 s. 0: a body may be as slow as it likes. Upgraded
    connections, and time in which we didn't read, don't count."""
    linger_seconds: float = 1.0
    """Time for a client to read the answer when we end its connection; what it still sends is ignored. Envoy's
    value."""
    path_normalization: str = "BASE"
    """`NONE`, `BASE`, `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`, as MeshConfig.pathNormalization."""
    idle_http_seconds: float = 3600.0
    """Life of a client's connection without a request; Envoy's value."""
    upstream_idle_http_seconds: float = 60.0
    """Life of a connection to an endpoint without a request. Shorter than what common servers allow (75 s), so that we
    close first and no request meets a closing connection."""
    retry_buffer_bytes: int = 64 << 10
    """Bytes of a request's body that are kept so that it can be sent again."""
    max_exchanges: int = 10_000
    """Requests at once in one process; more are answered 503."""
    max_mirrors: int = 1024
    """Mirrored requests at once; no more are made beyond it."""
    mirror_seconds: float = 15.0
    """Time for a mirrored request; nobody waits for it."""

    # -- DNS
    dns_servers: str = ""
    """Addresses of servers, separated by commas, each with a port if it isn't 53, instead of those in
    /etc/resolv.conf."""
    dns_timeout_seconds: float = 5.0
    """Time for an answer."""
    dns_min_seconds: float = 5.0
    """Shortest time after which a name is asked for again, whatever its time to live is."""
    dns_max_seconds: float = 300.0
    """Longest such time."""
    dns_stale_seconds: float = 600.0
    """Time for which the last answer is used while there is no new one."""

    # -- tokens
    jwks_refresh_seconds: float = 300.0
    """Age at which the keys of tokens' issuers are fetched again; Envoy's value."""
    jwks_early_seconds: float = 10.0
    """Shortest time between two fetches that tokens with unknown keys cause."""
    jwks_retry_seconds: float = 60.0
    """Longest pause after failed fetches; the first is 1 s."""
    jwks_bytes: int = 1 << 20
    """Size of one set of keys, bytes."""
    jwt_cache_tokens: int = 10_000
    """Tokens in the cache of good signatures."""
    jwt_cache_bytes: int = 16 << 20
    """Size of these tokens as they came, bytes. In memory each takes a few times more."""

    # -- stopping
    drain_seconds: float = 45.0
    """Time for requests to finish after SIGTERM; Istio's value."""
    drain_delay_seconds: float = 5.0
    """Time after SIGTERM in which new connections are still accepted, until everybody knows; Istio's value."""
    drain_silence_seconds: float = 10.0
    """While we drain: how long a peer may send nothing, not even the answer to a PING, or take nothing of what waits
    for it. Then it is cut: a frozen client must not hold a process that is to end."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], sections: Iterable[type[Section]] = ()) -> Self:
        """Defaults, overridden by variables. Raises InvalidSetting."""
        values: dict[str, str | int | float | bool] = {}
        for it in dataclasses.fields(cls)[1:]:
            variable = next((name for name in variables(it.name) if name in environment), None)
            if variable is not None:
                is_time = it.name.endswith("_seconds")
                values[it.name] = _parse(variable, environment[variable], it.default, is_time=is_time)
        return cls({kind: read(kind, environment) for kind in sections}, **values)  # type: ignore[arg-type]

    def of(self, section: type[S]) -> S:
        """The settings of a section."""
        found = self.sections.get(section)
        return section() if found is None else cast("S", found)

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
                names = " or ".join(variables(name))
                raise InvalidSetting(f"{names} is {getattr(self, name)}; it must be from {least} to {most}")
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
}
_PATH_NORMALIZATIONS = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")
_UNDERSCORES = ("keep", "drop", "reject")
_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}").fullmatch
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def variables(name: str) -> tuple[str, ...]:
    """The environment variables of a field; the first that is set counts."""
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
