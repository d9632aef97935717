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
    peer = r.peer
    service_time = "-" if r.upstream_service_time_ms is None else r.upstream_service_time_ms
    why = _why(r.detail, r.connection_termination_details, r.upstream_transport_failure_reason)
    method, caller, authority = _repeated(r.method, r.x_forwarded_for, r.user_agent, r.authority)
    ends = _ends(upstream, r.cluster, r.downstream_local, peer.ip, peer.port, r.requested_server_name, r.route_name)
    return (
        f'[{START_TIME.format(r.started_at)}] "{method} {escaped(r.original_target)} '
        f'{r.protocol or "-"}" {r.status} {flags} '
        f"{why} {r.bytes_received} {r.bytes_sent} {int(r.duration_ms)} {service_time} "
        f'{caller} "{escaped(r.request_id)}" '
        f"{authority} {ends}{'' if r.verdict is None else _noted(r.verdict)}\n"
    )


def _noted(verdict: Verdict) -> str:
    """Return the text behind Envoy's fields: audits and dry runs, if a policy requests them."""
    audited = f' audit="{_text(",".join(it.name for it in verdict.audited))}"' if verdict.audited else ""
    return audited + (f' dry_run="{_text(",".join(map(str, verdict.shadow)))}"' if verdict.shadow else "")


@lru_cache(maxsize=256)
def _why(detail: str, termination: str, failure: str) -> str:
    return f'{_word(detail)} {_word(termination)} "{_text(failure)}"'


@lru_cache(maxsize=256)
def _repeated(
    method: bytes, forwarded_for: bytes | None, user_agent: bytes | None, authority: bytes | None
) -> tuple[str, str, str]:
    """Return what most requests of a connection share, in three parts of the line.

    The cache is small: a value may be as large as a head.
    """
    return escaped(method), f'"{escaped(forwarded_for)}" "{escaped(user_agent)}"', f'"{escaped(authority)}"'


@lru_cache(maxsize=4096)
def _ends(
    upstream: tuple[str, str],
    cluster: ClusterName | None,
    local: tuple[str, int],
    peer_ip: str,
    peer_port: int,
    server_name: str,
    route: str,
) -> str:
    """Return the last fields of the line, which are the same for most requests of a connection."""
    host, upstream_local = upstream
    addresses = f"{_address(*local)} {_address(peer_ip, peer_port)}"
    names = f"{_word(server_name)} {_word(route)}"
    return f'"{host}" {_word(cluster or "")} {upstream_local} {addresses} {names}'


_UNSAFE = bytes(byte for byte in range(256) if byte < 0x20 or byte >= 0x7F or byte in b'"\\')
_MARKED = bytes(ord("?") if byte in _UNSAFE else byte for byte in range(256))
_ESCAPES = {byte: f"\\x{byte:02x}" for byte in _UNSAFE}


def escaped(value: bytes | None) -> str:
    """Return client-controlled text, escaped; `-` if it is empty."""
    if not value:
        return "-"
    text = value.decode("latin-1")
    return text if is_safe(value) else text.translate(_ESCAPES)


def is_safe(value: bytes) -> bool:
    """Whether a value needs no escape, neither in a text nor in JSON."""
    return value.translate(_MARKED) == value


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
