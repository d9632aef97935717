"""The schema of DestinationRule's `trafficPolicy`, validated like istiod does.

Unsupported fields are included, so that `destination_rule` can report them. A number 0 means "not set", as in Istio,
unless the type says otherwise.
https://istio.io/latest/docs/reference/config/networking/destination-rule/#TrafficPolicy
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from l4.config.durations import GoDuration, seconds_of
from l4.discovery.objects import PortNumber
from waypoint.config.api_fields import HeaderName, ParamName

_MAX_TABLE_SIZE = 5_000_011  # Envoy's

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
UnsignedCount = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Locality = Annotated[str, Meta(min_length=1, max_length=256)]


# -- TLS -----------------------------------------------------------------------------------------------------------


class ClientTLS(Struct, frozen=True, rename="camel"):
    """TLS of clients of the host. ISTIO_MUTUAL is what tunnels do anyway."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    ca_certificates: str = ""
    ca_crl: str = ""
    client_certificate: str = ""
    private_key: str = ""
    credential_name: str = ""
    ca_cert_credential_name: str = ""
    insecure_skip_verify: bool | None = None

    def __post_init__(self) -> None:
        files = (self.client_certificate, self.private_key)
        if self.mode == "MUTUAL" and not self.credential_name and not all(files):
            raise ValueError("mode MUTUAL needs clientCertificate and privateKey, or credentialName")
        if self.credential_name and any((*files, self.ca_certificates)):
            raise ValueError("credentialName and the files exclude each other: keep one")
        if self.ca_cert_credential_name and self.ca_certificates:
            raise ValueError("caCertCredentialName and caCertificates exclude each other: keep one")
        if self.mode == "ISTIO_MUTUAL":
            self._check_istio_mutual()
        if self.mode in {"SIMPLE", "MUTUAL"} and self.insecure_skip_verify:
            self._check_skipping()

    def _check_istio_mutual(self) -> None:
        own = (self.ca_certificates, self.client_certificate, self.private_key, self.credential_name)
        if any((*own, self.ca_cert_credential_name, self.ca_crl)):
            raise ValueError("mode ISTIO_MUTUAL uses its own certificates: remove these, or change the mode")

    def _check_skipping(self) -> None:
        """Without verification, the options for verification are contradictory."""
        for name in ("ca_certificates", "ca_crl", "ca_cert_credential_name", "subject_alt_names"):
            if getattr(self, name):
                first, *rest = name.split("_")
                told = first + "".join(word.capitalize() for word in rest)
                raise ValueError(f"insecureSkipVerify disables verification, so {told} has no effect: keep one")
        if self.mode == "SIMPLE" and self.credential_name:
            raise ValueError("insecureSkipVerify disables verification, so credentialName has no effect: keep one")


# -- connections ---------------------------------------------------------------------------------------------------


class TcpKeepalive(Struct, frozen=True):
    probes: UnsignedCount = 0
    time: GoDuration | None = None
    interval: GoDuration | None = None


class TcpSettings(Struct, frozen=True, rename="camel"):
    max_connections: Count = 0
    connect_timeout: GoDuration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: GoDuration | None = None
    idle_timeout: GoDuration | None = None

    def __post_init__(self) -> None:
        if self.connect_timeout is not None and (seconds_of(self.connect_timeout) or 0.0) < 0.001:
            raise ValueError("connectTimeout must be 1ms or more")


class RetryBudgetSettings(Struct, frozen=True, rename="camel"):
    """The budget of active retries. `percent` may be fractional."""

    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    min_retry_concurrency: UnsignedCount | None = None
    budget_interval: GoDuration | None = None


class Http2KeepAlive(Struct, frozen=True):
    interval: GoDuration | None = None
    timeout: GoDuration | None = None


class HttpSettings(Struct, frozen=True, rename="camel"):
    http1_max_pending_requests: Count = 0
    http2_max_requests: Count = 0
    max_requests_per_connection: Count = 0
    max_retries: Count = 0
    idle_timeout: GoDuration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: Count = 0
    http2_keep_alive: Http2KeepAlive | None = None

    def __post_init__(self) -> None:
        if self.h2_upgrade_policy == "UPGRADE" and self.use_client_protocol:
            raise ValueError("h2UpgradePolicy UPGRADE and useClientProtocol contradict each other: keep one")


class ConnectionPool(Struct, frozen=True):
    tcp: TcpSettings = TcpSettings()
    http: HttpSettings = HttpSettings()


# -- outlier detection ---------------------------------------------------------------------------------------------


class OutlierDetection(Struct, frozen=True, rename="camel"):
    """A threshold of 0 disables a detector; a missing one has Envoy's default."""

    consecutive_errors: Annotated[int, Meta(ge=0)] | None = None
    consecutive_5xx_errors: UnsignedCount | None = field(default=None, name="consecutive5xxErrors")
    consecutive_gateway_errors: UnsignedCount | None = None
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UnsignedCount | None = None
    interval: GoDuration | None = None
    base_ejection_time: GoDuration | None = None
    max_ejection_percent: Percent = 0
    min_health_percent: Percent = 0
    failure_percentage_threshold: Percent | None = None
    outlier_detection_http_error_codes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, text in (("interval", self.interval), ("baseEjectionTime", self.base_ejection_time)):
            if text is not None and (seconds_of(text) or 0.0) < 0.001:
                raise ValueError(f"{name} must be 1ms or more")


# -- load balancing ------------------------------------------------------------------------------------------------


class CookieAttribute(Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f=;,]+\Z")]
    value: Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f;]*\Z")] = ""


class HttpCookie(Struct, frozen=True):
    """Without `ttl`, the cookie is only read. With `ttl`, even 0, clients without the cookie get one."""

    name: HeaderName
    path: Annotated[str, Meta(max_length=1024, pattern=r"^[\x20-\x3a\x3c-\x7e]*\Z")] = ""
    ttl: GoDuration | None = None
    attributes: Annotated[tuple[CookieAttribute, ...], Meta(max_length=16)] = ()


class RingHash(Struct, frozen=True, rename="camel"):
    minimum_ring_size: Annotated[int, Meta(ge=0, le=2**23)] = 0


class Maglev(Struct, frozen=True, rename="camel"):
    table_size: Annotated[int, Meta(ge=0, le=_MAX_TABLE_SIZE)] = 0


class ConsistentHash(Struct, frozen=True, rename="camel"):
    http_header_name: HeaderName | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: ParamName | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: Annotated[int, Meta(ge=0, le=2**23)] = 0

    def __post_init__(self) -> None:
        if self.use_source_ip is False:
            raise ValueError("useSourceIp: false has no effect: remove it or set it to true")
        keys = (self.http_header_name, self.http_cookie, self.use_source_ip, self.http_query_parameter_name)
        if sum(key is not None for key in keys) != 1:
            raise ValueError(
                "needs exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName to hash"
            )
        if self.ring_hash is not None and self.maglev is not None:
            raise ValueError("ringHash and maglev exclude each other: keep one")
        if self.maglev is not None and self.maglev.table_size and not _is_prime(self.maglev.table_size):
            raise ValueError(f"maglev.tableSize must be a prime number such as 65537, not {self.maglev.table_size}")


class Warmup(Struct, frozen=True, rename="camel"):
    duration: GoDuration
    minimum_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    aggression: Annotated[float, Meta(ge=1)] | None = None


class Distribute(Struct, frozen=True):
    from_: Locality = field(name="from")
    to: dict[Locality, Annotated[int, Meta(ge=1, le=100)]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(self.to.values()) != 100:
            raise ValueError(f"the weights for {self.from_!r} must add up to 100")


class Failover(Struct, frozen=True):
    from_: Locality = field(name="from")
    to: Locality

    def __post_init__(self) -> None:
        if self.from_ == self.to:
            raise ValueError(f"failover from {self.from_!r} to itself is not allowed")
        if "/" in self.from_ or "/" in self.to:
            raise ValueError("failover is between regions; order zones with failoverPriority")


class LocalityLb(Struct, frozen=True, rename="camel"):
    distribute: Annotated[tuple[Distribute, ...], Meta(max_length=256)] = ()
    failover: Annotated[tuple[Failover, ...], Meta(max_length=256)] = ()
    failover_priority: Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(max_length=32)] = ()
    enabled: bool | None = None

    def __post_init__(self) -> None:
        if self.distribute and (self.failover or self.failover_priority):
            raise ValueError("distribute excludes failover and failoverPriority: keep one")


class LoadBalancer(Struct, frozen=True, rename="camel"):
    simple: Literal["UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "RANDOM", "ROUND_ROBIN", "PASSTHROUGH"] | None = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLb | None = None
    warmup: Warmup | None = None
    warmup_duration_secs: GoDuration | None = None
    zone_aware_lb_setting: dict[str, Any] | None = None
    backend_utilization: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.zone_aware_lb_setting is not None and self.locality_lb_setting is not None:
            raise ValueError("localityLbSetting and zoneAwareLbSetting exclude each other: keep one")
        if self.simple is not None and self.consistent_hash is not None:
            raise ValueError("simple and consistentHash exclude each other: keep one")


# -- all of it -----------------------------------------------------------------------------------------------------


class PortSelector(Struct, frozen=True):
    number: PortNumber


class PortTrafficPolicy(Struct, frozen=True, rename="camel"):
    port: PortSelector
    connection_pool: ConnectionPool | None = None
    load_balancer: LoadBalancer | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLS | None = None


class TrafficPolicy(Struct, frozen=True, rename="camel"):
    connection_pool: ConnectionPool | None = None
    load_balancer: LoadBalancer | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLS | None = None
    port_level_settings: Annotated[tuple[PortTrafficPolicy, ...], Meta(max_length=4096)] = ()
    tunnel: dict[str, Any] | None = None
    proxy_protocol: dict[str, Any] | None = None
    retry_budget: RetryBudgetSettings | None = None


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
