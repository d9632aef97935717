"""Settings of HTTP between a client and the waypoint, and of HTTP in general."""

import re
from dataclasses import dataclass

from l4.config.settings import InvalidSetting, Section, setting

_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}").fullmatch


@dataclass(frozen=True, slots=True)
class HttpSettings(Section):
    title = "HTTP"

    inner_http2_streams: int = setting(100, least=1, most=2**31 - 1)
    """Requests at once on one HTTP/2 connection inside a tunnel; Envoy's value for edges."""
    inner_http2_stream_window: int = setting(64 << 10, least=1, most=2**31 - 1)
    """Flow-control window of one request, bytes. More would have to be buffered for a slow endpoint."""
    inner_http2_connection_window: int = setting(1 << 20, least=65_535, most=2**31 - 1)
    """Flow-control window of one HTTP/2 connection inside a tunnel, bytes. Many times the stream's, so that one request
    that nobody reads cannot stall the others."""
    head_bytes: int = 60 << 10
    """Size of a request's line and fields, bytes; Envoy's value."""
    head_fields: int = 100
    """Fields of a head; Envoy's value."""
    head_seconds: float = 10.0
    """Time for a head that has begun (slowloris); Envoy's is off."""
    accept_http_10: bool = False
    """Whether requests of HTTP/1.0 are served (an old nginx speaks it to its upstreams by default), as Envoy's
    `accept_http_10`; else they get 426. They need a Host; answers are in that version, without chunks."""
    headers_with_underscores: str = setting("keep", choices=("keep", "drop", "reject"))
    """`keep`, `drop` or `reject` what requests have of them, as Envoy's `headers_with_underscores_action`: many
    applications read `x_user` as `x-user`, which may be what a policy judges. Spellings of a header that is taken out
    (`x_forwarded_client_cert`, `content_length`) go whatever this is."""
    extra_methods: str = ""
    """Methods, separated by commas, beside those that are registered for HTTP; `TRACE`, too, only where it is here."""
    path_normalization: str = setting("BASE", choices=("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"))
    """`NONE`, `BASE`, `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`, as MeshConfig.pathNormalization."""
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
    idle_http_seconds: float = 3600.0
    """Life of a client's connection without a request; Envoy's value."""
    max_exchanges: int = setting(10_000, least=1, most=2**31 - 1)
    """Requests at once in one process; more are answered 503."""

    @property
    def extra_method_names(self) -> frozenset[bytes]:
        """The methods in `extra_methods`."""
        names = (name.strip() for name in self.extra_methods.split(","))
        return frozenset(name.encode() for name in names if name)

    def check(self) -> None:
        for method in self.extra_method_names:
            if not _METHOD(method) or method == b"CONNECT":
                advice = "write method names in capitals, such as REINDEX, separated by commas"
                raise InvalidSetting(f"EXTRA_METHODS contains {method.decode()!r}; {advice}")
