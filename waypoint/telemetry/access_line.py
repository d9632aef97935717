"""A line of the access log in Envoy's default text format, with `-` for missing values.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
All client-controlled text is escaped, so that a client cannot forge a line or a field.
"""

from functools import lru_cache

from l4.telemetry.access_log import StartTime
from policies.attributes import ClusterName
from policies.authorization import Verdict
from policies.balancing.endpoint import Endpoint
from policies.host_port import host_port
from waypoint.telemetry.record import ExchangeRecord

START_TIME = StartTime()


def default_line(record: ExchangeRecord, flags: str, upstream: tuple[str, str]) -> str:
    """`flags` and `upstream` are what `flags_text` and `upstream_of` return for the record."""
    r = record
    upstream_host, upstream_local = upstream
    service_time = "-" if r.upstream_service_time_ms is None else r.upstream_service_time_ms
    if r.detail == _ANSWERED and not (r.connection_termination_details or r.upstream_transport_failure_reason):
        why = _ANSWERED_WHY
    else:
        why = (
            f"{_word(r.detail)} {_word(r.connection_termination_details)} "
            f'"{_text(r.upstream_transport_failure_reason)}"'
        )
    local, server_name = r.downstream_local, r.requested_server_name
    ends = _ends(r.cluster, upstream_local, *local, r.peer.ip, r.peer.port, server_name, r.route_name)
    return (
        f'[{START_TIME.format(r.started_at)}] "{_repeated(r.method)} {escaped(r.original_target)} '
        f'{r.protocol or "-"}" {r.status} {flags} '
        f"{why} {r.bytes_received} {r.bytes_sent} {int(r.duration_ms)} {service_time} "
        f'"{_repeated(r.x_forwarded_for)}" "{_repeated(r.user_agent)}" "{escaped(r.request_id)}" '
        f'"{_repeated(r.authority)}" '
        f'"{upstream_host}" {ends}{_noted(r.verdict) if r.verdict is not None else ""}\n'
    )


def _noted(verdict: Verdict) -> str:
    """Return the text behind Envoy's fields: audits and dry runs, if a policy requests them."""
    audited = f' audit="{_text(",".join(it.name for it in verdict.audited))}"' if verdict.audited else ""
    return audited + (f' dry_run="{_text(",".join(map(str, verdict.shadow)))}"' if verdict.shadow else "")


_ANSWERED = "via_upstream"
_ANSWERED_WHY = f'{_ANSWERED} - "-"'


@lru_cache(maxsize=4096)
def _ends(
    cluster: ClusterName | None,
    upstream_local: str,
    local_ip: str,
    local_port: int,
    peer_ip: str,
    peer_port: int,
    server_name: str,
    route: str,
) -> str:
    """Return the last fields of the line, which are the same for all requests of a connection."""
    addresses = f"{_address(local_ip, local_port)} {_address(peer_ip, peer_port)}"
    return f"{_word(cluster or '')} {upstream_local} {addresses} {_word(server_name)} {_word(route)}"


_UNSAFE = bytes(byte for byte in range(256) if byte < 0x20 or byte >= 0x7F or byte in b'"\\')
_SAFE = bytes(set(range(256)) - set(_UNSAFE))
_ESCAPES = {byte: f"\\x{byte:02x}" for byte in _UNSAFE}


def escaped(value: bytes | None) -> str:
    """Return client-controlled text, escaped; `-` if it is empty."""
    if not value:
        return "-"
    text = value.decode("latin-1")
    return text.translate(_ESCAPES) if value.translate(None, _SAFE) else text


_repeated = lru_cache(maxsize=256)(escaped)
"""For values that most requests of a connection share. The cache is small: a value may be as large as a head."""


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    """Return the text of a quoted field, escaped: it may quote a peer's certificate or a resource's name."""
    return escaped(text.encode())


def _word(text: str) -> str:
    """Return the text of an unquoted field. Spaces become underscores, as in Envoy, so that columns stay columns."""
    return _text(text).replace(" ", "_")


def upstream_of(endpoint: Endpoint | None) -> tuple[str, str]:
    """Return UPSTREAM_HOST and UPSTREAM_LOCAL_ADDRESS, with the names that Istio's waypoint gives to tunnels."""
    if endpoint is None:
        return "-", "-"
    return endpoint.name, "-" if endpoint.identity is None else "envoy://internal_client_address/"


@lru_cache(maxsize=4096)
def _address(host: str, port: int) -> str:
    return host_port(_word(host), port)
