"""Apply DestinationRules to cluster configurations."""

from collections.abc import Iterator
from dataclasses import replace

from l4.config.documents import Problem
from l4.config.durations import seconds_of
from l4.discovery.workload import AppProtocol
from policies.balancing.hash_key import KeyKind, KeySource
from policies.balancing.maglev import DEFAULT_TABLE_SIZE
from policies.balancing.method import Balancing, Method
from policies.balancing.ring_hash import DEFAULT_RING_SIZE
from policies.balancing.warm_up import WarmUp
from policies.circuit import CircuitLimits
from policies.connection_pool import DEFAULT_POOL, Keepalive
from policies.connection_pool import ConnectionPool as Pool
from policies.outlier import OutlierDetection as Detection
from policies.retry_budget import DEFAULT_BUDGET, RetryBudget
from policies.upstream_tls import UpstreamTls
from waypoint.config.istio import traffic_policy as api
from waypoint.config.istio.destination_rule import DestinationRules, Part, Policy
from waypoint.config.snapshot import ClusterConfig

_HTTP2 = frozenset({AppProtocol.HTTP2, AppProtocol.GRPC, AppProtocol.GRPC_WEB})
_NO_SECRETS = (
    "secrets are not supported, and nothing is sent; use files for caCertificates, clientCertificate, privateKey"
)
_NO_REVOCATION = "revocation lists are not supported, and nothing is sent; remove it if that is acceptable"
_METHODS = {"RANDOM": Method.RANDOM, "ROUND_ROBIN": Method.ROUND_ROBIN}


class UpstreamPolicies:
    def __init__(self, rules: DestinationRules) -> None:
        self._rules = rules

    def applied(self, config: ClusterConfig, policy: Policy, subject_alt_names: tuple[str, ...]) -> ClusterConfig:
        """Return the cluster with the policy applied, except for locality.

        `subject_alt_names` are the service's; they apply if the policy has none.
        """
        self._rules.problems.extend(_not_carried_out(policy, config))
        if policy.connection_pool is not None:
            pool = policy.connection_pool[0]
            if pool.http.h2_upgrade_policy == "UPGRADE" and config.app_protocol is AppProtocol.HTTP:
                config = replace(config, app_protocol=AppProtocol.HTTP2)
            config = replace(config, pool=_pool(pool), circuit=_circuit(pool), retry_budget=_max_retries(pool))
        if policy.retry_budget is not None:
            config = replace(config, retry_budget=_budget(policy.retry_budget[0]))
        if policy.outlier_detection is not None:
            config = replace(config, outlier=_outlier(policy.outlier_detection[0]))
        if policy.load_balancer is not None:
            config = replace(config, balancing=_balancing(policy.load_balancer[0]))
        if policy.tls is not None:
            tls, part = policy.tls
            config = replace(config, tls=self._tls(tls, part, config, subject_alt_names))
        return config

    def _tls(
        self, tls: api.ClientTLS, part: Part, config: ClusterConfig, subject_alt_names: tuple[str, ...]
    ) -> UpstreamTls | None:
        if tls.mode in {"DISABLE", "ISTIO_MUTUAL"}:
            return None
        problem = ""
        for field, value, sentence in (
            ("caCrl", tls.ca_crl, _NO_REVOCATION),
            ("credentialName", tls.credential_name, _NO_SECRETS),
            ("caCertCredentialName", tls.ca_cert_credential_name, _NO_SECRETS),
        ):
            if value:
                problem = sentence
                self._rules.problems.append(part.problem(field, sentence))
        return UpstreamTls(
            server_name=tls.sni or config.service.hostname,
            subject_alt_names=tls.subject_alt_names or subject_alt_names,
            ca_certificates=tls.ca_certificates,
            client_certificate=tls.client_certificate,
            private_key=tls.private_key,
            is_verified=not tls.insecure_skip_verify,
            is_http2=config.app_protocol in _HTTP2,
            problem=problem,
        )


def _not_carried_out(policy: Policy, config: ClusterConfig) -> Iterator[Problem]:
    if policy.load_balancer is not None:
        balancer, part = policy.load_balancer
        if balancer.zone_aware_lb_setting is not None:
            sentence = "is not supported: near and far endpoints are treated equally; use localityLbSetting"
            yield part.problem("zoneAwareLbSetting", sentence)
        if balancer.backend_utilization is not None:
            yield part.problem("backendUtilization", "is not supported, because load reports are not read; remove it")
    if policy.outlier_detection is not None:
        yield from _not_detected(*policy.outlier_detection)
    if policy.connection_pool is not None:
        pool, part = policy.connection_pool
        if pool.tcp.tcp_keepalive is not None and all(endpoint.identity for endpoint in config.endpoints):
            sentence = "has no effect on tunnels, which are shared; use KEEPALIVE_TIME and KEEPALIVE_RETRIES for them"
            yield part.problem("tcp.tcpKeepalive", sentence)
        for name, value, instead in (
            (
                "tcp.maxConnectionDuration",
                pool.tcp.max_connection_duration,
                "connections stay open while they are used",
            ),
            ("tcp.idleTimeout", pool.tcp.idle_timeout, "opaque connections may be idle"),
            ("http.http2KeepAlive", pool.http.http2_keep_alive, "tunnels have their own PINGs"),
        ):
            if value is not None:
                yield part.problem(name, f"is not supported: {instead}")


def _not_detected(detection: api.OutlierDetection, part: Part) -> Iterator[Problem]:
    for name, value, instead in (
        ("consecutiveErrors", detection.consecutive_errors, "use consecutive5xxErrors or consecutiveGatewayErrors"),
        ("failurePercentageThreshold", detection.failure_percentage_threshold, "only consecutive errors are counted"),
        ("outlierDetectionHttpErrorCodes", detection.outlier_detection_http_error_codes or None, "only 5xx count"),
    ):
        if value is not None:
            yield part.problem(name, f"is not supported: {instead}")


# -- connections -----------------------------------------------------------------------------------------------------


def _pool(pool: api.ConnectionPool) -> Pool:
    tcp, http = pool.tcp, pool.http
    return Pool(
        connect_seconds=seconds_of(tcp.connect_timeout) or DEFAULT_POOL.connect_seconds,
        idle_seconds=seconds_of(http.idle_timeout),
        max_requests_per_connection=http.max_requests_per_connection,
        max_concurrent_streams=http.max_concurrent_streams or None,
        uses_client_protocol=http.use_client_protocol,
        keepalive=_keepalive(tcp.tcp_keepalive) if tcp.tcp_keepalive is not None else None,
    )


def _keepalive(keepalive: api.TcpKeepalive) -> Keepalive:
    return Keepalive(keepalive.probes or None, seconds_of(keepalive.time), seconds_of(keepalive.interval))


def _circuit(pool: api.ConnectionPool) -> CircuitLimits:
    return CircuitLimits(
        max_connections=pool.tcp.max_connections or None,
        max_pending_requests=pool.http.http1_max_pending_requests or None,
        max_requests=pool.http.http2_max_requests or None,
    )


def _max_retries(pool: api.ConnectionPool) -> RetryBudget:
    """`maxRetries` is a budget without a share."""
    if pool.http.max_retries:
        return RetryBudget(percent=0.0, min_concurrency=pool.http.max_retries)
    return DEFAULT_BUDGET


def _budget(budget: api.RetryBudgetSettings) -> RetryBudget:
    return RetryBudget(
        percent=DEFAULT_BUDGET.percent if budget.percent is None else budget.percent,
        interval_seconds=seconds_of(budget.budget_interval) or 0.0,
        min_concurrency=(
            DEFAULT_BUDGET.min_concurrency if budget.min_retry_concurrency is None else budget.min_retry_concurrency
        ),
    )


# -- endpoints -------------------------------------------------------------------------------------------------------


def _outlier(detection: api.OutlierDetection) -> Detection:
    usual = Detection()
    fives, local = detection.consecutive_5xx_errors, detection.consecutive_local_origin_failures
    return Detection(
        consecutive_5xx=usual.consecutive_5xx if fives is None else fives,
        consecutive_gateway_errors=detection.consecutive_gateway_errors or 0,
        splits_local_origin=detection.split_external_local_origin_errors,
        consecutive_local_origin_failures=usual.consecutive_local_origin_failures if local is None else local,
        interval=seconds_of(detection.interval) or usual.interval,
        base_ejection=seconds_of(detection.base_ejection_time) or usual.base_ejection,
        max_ejection_percent=detection.max_ejection_percent or usual.max_ejection_percent,
        min_health_percent=detection.min_health_percent,
    )


def _balancing(balancer: api.LoadBalancer) -> Balancing:
    """PASSTHROUGH is for clients that call an address; clients of a waypoint call a service."""
    if balancer.consistent_hash is not None:
        return _hashing(balancer.consistent_hash)
    return Balancing(method=_METHODS.get(balancer.simple or "", Method.LEAST_REQUEST), warm_up=_warm_up(balancer))


def _warm_up(balancer: api.LoadBalancer) -> WarmUp | None:
    usual, warm_up = WarmUp(0.0), balancer.warmup
    seconds = seconds_of(warm_up.duration if warm_up is not None else balancer.warmup_duration_secs)
    if seconds is None:
        return None
    if warm_up is None:
        return WarmUp(seconds)
    least, aggression = warm_up.minimum_percent, warm_up.aggression
    return WarmUp(
        seconds,
        usual.min_percent if least is None else least,
        usual.aggression if aggression is None else aggression,
    )


def _hashing(hashed: api.ConsistentHash) -> Balancing:
    if hashed.maglev is not None:
        return Balancing(Method.MAGLEV, _key(hashed), hashed.maglev.table_size or DEFAULT_TABLE_SIZE)
    ring = hashed.ring_hash.minimum_ring_size if hashed.ring_hash is not None else hashed.minimum_ring_size
    return Balancing(Method.RING_HASH, _key(hashed), ring or DEFAULT_RING_SIZE)


def _key(hashed: api.ConsistentHash) -> KeySource:
    cookie = hashed.http_cookie
    if cookie is not None:
        ttl = None if cookie.ttl is None else int(seconds_of(cookie.ttl) or 0)
        attributes = tuple((it.name.encode(), it.value.encode()) for it in cookie.attributes)
        return KeySource(KeyKind.COOKIE, cookie.name.encode(), cookie.path.encode(), ttl, attributes)
    if hashed.http_header_name is not None:
        return KeySource(KeyKind.HEADER, hashed.http_header_name.lower().encode())
    if hashed.http_query_parameter_name is not None:
        return KeySource(KeyKind.QUERY, hashed.http_query_parameter_name.encode())
    return KeySource(KeyKind.SOURCE_IP)
