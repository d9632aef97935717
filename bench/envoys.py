"""Envoy's configuration for a setup, and the application that both waypoints have behind them.

The waypoint is built like Istio's: internal listeners between HBONE in and HTTP, and between HTTP and HBONE out. Routes
are in a file of their own (RDS), so that they can be exchanged while it runs. The access log has Istio's format, as
ours. Metrics are Envoy's own: Istio's filter isn't in this build.
"""

from collections.abc import Iterator
from pathlib import Path

from bench import setups
from bench.setups import Setup, area
from bench.tokens import ISSUER
from tests.kit import envoy_pieces as pieces
from tests.kit.envoy_pieces import Address, Certificate, Config

_FILTERS = "extensions.filters.http."
_PRINCIPAL = "io.istio.peer_principal"
HBONE_PORT = 15008
_MAIN, _TCP = "main", "tcp"
_BODY_LIMIT = 16 << 20
_LOG_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def waypoint(
    setup: Setup,
    certificate: Certificate,
    *,
    listen: Address,
    endpoint: str,
    access_log: Path,
    routes: Path,
    collector: Address,
    jwks: str,
) -> Config:
    """`endpoint` is the address of the one pod, `routes` the file with what `routes` returns."""
    main = pieces.http(_MAIN, [], use_remote_address=False, generate_request_id=True, normalize_path=True)
    manager = main["typed_config"]
    del manager["route_config"]
    source = {"path_config_source": {"path": str(routes)}, "resource_api_version": "V3"}
    manager["rds"] = {"route_config_name": _MAIN, "config_source": source}
    manager["http_filters"][:0] = _filters(setup, jwks)
    if setup.access_log:
        format_ = {"text_format_source": {"inline_string": _LOG_FORMAT}}
        kind = "extensions.access_loggers.file.v3.FileAccessLog"
        manager["access_log"] = [pieces.named("file", kind, path=str(access_log), log_format=format_)]
    if setup.tracing:
        manager["tracing"] = _tracing()
    authority = f"{endpoint}:{setups.HTTP_PORT}"
    listeners = [
        pieces.listener("terminate", listen, _terminate(), transport_socket=pieces.server_tls(certificate)),
        pieces.listener(_MAIN, None, main),
        pieces.listener(_TCP, None, pieces.tunnel("hbone", f"{endpoint}:{setups.TCP_PORT}")),
        pieces.listener("originate", None, pieces.tunnel("hbone", authority)),
    ]
    extra = _resilience() if setup.resilience else {}
    clusters = [
        pieces.internal_cluster(_MAIN, _MAIN),
        pieces.internal_cluster(_TCP, _TCP),
        pieces.internal_cluster("service", "originate", **extra),
        pieces.internal_cluster("service-http2", "originate", **extra, **pieces.http2()),
        pieces.hbone_cluster(certificate, (endpoint, HBONE_PORT)),
        pieces.cluster("collector", pieces.place(collector)),
    ]
    clusters += [pieces.internal_cluster(f"s{number}", "originate", **extra) for number in range(setup.services)]
    node = {"node": {"id": "waypoint", "cluster": "waypoint"}}
    return {**pieces.bootstrap(listeners, clusters), **node}


def routes(setup: Setup, version: int = 0) -> Config:
    """The file of RDS. Another version is another configuration that does the same."""
    action = _action(setup)
    areas = (path for it in range(setup.routes - 1) for path in (area(it), f"{area(it)}.{version}"))
    listed: list[Config] = [
        *({"match": {"path_separated_prefix": it}, "route": action} for it in areas),
        {"match": {"prefix": "/", "grpc": {}}, "route": action | {"cluster": "service-http2"}},
        {"match": {"prefix": "/"}, "route": action},
    ]
    hosts: list[Config] = [{"name": "all", "domains": ["*"], "routes": listed}]
    for number in range(setup.services):
        route = {"match": {"prefix": "/"}, "route": action | {"cluster": f"s{number}"}}
        hosts.append({"name": f"s{number}", "domains": [f"s{number}.default.svc.cluster.local"], "routes": [route]})
    config = pieces.typed("config.route.v3.RouteConfiguration", name=_MAIN, virtual_hosts=hosts)
    return {"version_info": str(version), "resources": [config]}


def _action(setup: Setup) -> Config:
    action: Config = {"cluster": "service", "timeout": "0s"}
    if setup.resilience:
        action["timeout"] = f"{setups.TIMEOUT_SECONDS}s"
        action["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
            "retriable_status_codes": [503],
            "num_retries": setups.RETRIES,
        }
    if setup.mirror:
        action["request_mirror_policies"] = [{"cluster": "service"}]
    return action


def _resilience() -> Config:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), setups.CONNECTIONS)
    ejection: Config = {"consecutive_5xx": setups.FAILURES, "interval": f"{setups.EJECTION_INTERVAL_SECONDS}s"}
    ejection["max_ejection_percent"] = 100
    return {"circuit_breakers": {"thresholds": [limits]}, "outlier_detection": ejection}


def _filters(setup: Setup, jwks: str) -> Iterator[Config]:
    if setup.token:
        provider = {"issuer": ISSUER, "local_jwks": {"inline_string": jwks}, "forward": True}
        rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}]
        kind = _FILTERS + "jwt_authn.v3.JwtAuthentication"
        yield pieces.named("jwt", kind, providers={"p": provider}, rules=rules)
    if setup.rules:
        yield _rbac("DENY", {"blocked": ["cluster.local/ns/default/sa/blocked"]})
        allowed = {f"{number:06}": [setups.stranger(number)] for number in range(setup.rules - 1)}
        yield _rbac("ALLOW", {**allowed, "client": [setups.CLIENT]})
    if setup.limits:
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        bucket = {
            "max_tokens": setups.LIMIT_PER_SECOND,
            "tokens_per_fill": setups.LIMIT_PER_SECOND,
            "fill_interval": "1s",
        }
        kind = _FILTERS + "local_ratelimit.v3.LocalRateLimit"
        switched = {"filter_enabled": always, "filter_enforced": always}
        yield pieces.named("limit", kind, stat_prefix="limit", token_bucket=bucket, **switched)


def _rbac(action: str, policies: dict[str, list[str]]) -> Config:
    """Policies are judged in the order of their names."""
    rules = {
        name: {
            "permissions": [{"any": True}],
            "principals": [
                {"filter_state": {"key": _PRINCIPAL, "string_match": {"exact": f"spiffe://{it}"}}} for it in principals
            ],
        }
        for name, principals in policies.items()
    }
    return pieces.named(action.lower(), _FILTERS + "rbac.v3.RBAC", rules={"action": action, "policies": rules})


def _tracing() -> Config:
    uri = {"uri": "http://collector/v1/traces", "cluster": "collector", "timeout": "1s"}
    provider = pieces.named(
        "envoy.tracers.opentelemetry",
        "config.trace.v3.OpenTelemetryConfig",
        http_service={"http_uri": uri},
        service_name="waypoint",
    )
    return {"provider": provider, "random_sampling": {"value": setups.SAMPLED_PERCENT}}


def _terminate() -> Config:
    """HBONE in: one service carries TCP, everything else HTTP."""
    manager = pieces.terminate(_MAIN)
    config = manager["typed_config"]
    (route,) = config["route_config"]["virtual_hosts"][0]["routes"]
    authority = {"exact": f"{setups.SERVICE_TCP}:{setups.TCP_PORT}"}
    match = route["match"] | {"headers": [{"name": ":authority", "string_match": authority}]}
    config["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": match, "route": route["route"] | {"cluster": _TCP}},
        route,
    ]
    principal = (_PRINCIPAL, "envoy.string", "%DOWNSTREAM_PEER_URI_SAN%")
    config["http_filters"].insert(0, pieces.filter_state([principal]))
    return manager


def app(*, listen: Address, files: dict[str, Path], body_bytes: int, streams: Address, collector: Address) -> Config:
    """An application that answers every request with so many bytes, each path of `files` with the file, and each gRPC
    call of `echo.Echo` with the message `hello`, or by the server at `streams`. It answers a request when the whole of
    it has come. At `collector` it takes spans.

    Trailers come from a filter that speaks gRPC for an HTTP/1.1 server, because Envoy cannot be configured to send any.
    """
    protobuf = "application/x-protobuf"
    unary = _answer({"prefix": "/"}, {"inline_string": "hello"})
    unary["response_headers_to_add"] = [
        {"header": {"key": "content-type", "value": protobuf}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    ]
    bridge_kind = _FILTERS + "grpc_http1_reverse_bridge.v3.FilterConfig"
    off = {
        name: pieces.typed(kind, disabled=True)
        for name, kind in (
            ("bridge", bridge_kind + "PerRoute"),
            ("whole", _FILTERS + "buffer.v3.BufferPerRoute"),
        )
    }
    listed: list[Config] = [
        {
            "match": {"prefix": "/echo.Echo/Repeat"},
            "route": {"cluster": "streams", "timeout": "0s"},
            "typed_per_filter_config": off,
        },
        {"match": {"prefix": "/echo.Echo/"}, "route": {"cluster": "unary"}},
        *(_answer({"path": path}, {"filename": str(file)}) for path, file in files.items()),
        _answer({"prefix": "/"}, {"inline_string": "x" * body_bytes}),
    ]
    manager = pieces.http("app", listed)
    config = manager["typed_config"]
    config["route_config"]["max_direct_response_body_size_bytes"] = max(it.stat().st_size for it in files.values())
    config["http_filters"][:0] = [
        pieces.named("bridge", bridge_kind, content_type=protobuf, withhold_grpc_frames=True),
        pieces.named("whole", _FILTERS + "buffer.v3.Buffer", max_request_bytes=_BODY_LIMIT),
    ]
    listeners = [
        pieces.listener("app", listen, manager),
        pieces.listener("unary", None, pieces.http("unary", [unary])),
        pieces.listener("collector", collector, pieces.http("collector", [_answer({"prefix": "/"}, {})])),
    ]
    clusters = [
        pieces.internal_cluster("unary", "unary"),
        pieces.cluster("streams", pieces.place(streams), **pieces.http2()),
    ]
    return pieces.bootstrap(listeners, clusters)


def _answer(match: Config, body: Config) -> Config:
    return {"match": match, "direct_response": {"status": 200, **({"body": body} if body else {})}}
