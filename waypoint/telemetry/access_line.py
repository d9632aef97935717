"""A line of the access log in Envoy's default text format, with `-` for missing values.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
All client-controlled text is escaped, so that a client cannot forge a line or a field.
"""

from collections.abc import Callable
from functools import lru_cache

from l4.telemetry.access_log import StartTime
from policies.attributes import ClusterName
from policies.authorization import Verdict
from policies.balancing.endpoint import Endpoint
from policies.decimals import decimal
from policies.host_port import host_port
from waypoint.telemetry.record import ExchangeRecord

START_TIME = StartTime()
MAX_TEMPLATES = 2048
_SHORT = 1024
"""Letters of the fields of a template that is kept: a client's may be as long as a head."""

Repeated = tuple[
    *tuple[bytes, str, int, str, str, str, str, bytes | None, bytes | None, bytes | None],
    *tuple[str, str, ClusterName | None, str, int, str, int, str, str],
]
"""The fields of a line that are the same for most requests of a connection."""


class Templates:
    """Lines without what differs from request to request. `write` makes one, with a `\\0` in each gap."""

    __slots__ = ("_known", "_write")

    def __init__(self, write: Callable[[Repeated], str]) -> None:
        self._known: dict[Repeated, list[bytes]] = {}
        self._write = write

    def find(self, record: ExchangeRecord, flags: str, upstream: tuple[str, str]) -> list[bytes]:
        """Return the parts of a record's line between its gaps. Treat them as read-only."""
        r = record
        peer, local = r.peer, r.downstream_local
        key = (
            r.method,
            r.protocol,
            r.status,
            flags,
            r.detail,
            r.connection_termination_details,
            r.upstream_transport_failure_reason,
            r.x_forwarded_for,
            r.user_agent,
            r.authority,
            upstream[0],
            upstream[1],
            r.cluster,
            local[0],
            local[1],
            peer.ip,
            peer.port,
            r.requested_server_name,
            r.route_name,
        )
        template = self._known.get(key)
        return self._make(key) if template is None else template

    def _make(self, key: Repeated) -> list[bytes]:
        template = self._write(key).encode("latin-1", "backslashreplace").split(b"\0")
        if sum(len(it) for it in key if isinstance(it, bytes | str)) <= _SHORT:
            if len(self._known) >= MAX_TEMPLATES:
                self._known.clear()
            self._known[key] = template
        return template


def filled(
    between: list[bytes], record: ExchangeRecord, target: bytes, service_time: bytes, request_id: bytes
) -> bytes:
    """Return the line of a record, whose parts `between` its gaps are a template's."""
    r = record
    clock: StartTime = START_TIME
    return b"".join(
        (
            between[0],
            clock.format(r.started_at),
            between[1],
            target,
            between[2],
            decimal(r.bytes_received),
            between[3],
            decimal(r.bytes_sent),
            between[4],
            decimal(int(r.duration_ms)),
            between[5],
            service_time,
            between[6],
            request_id,
            between[7],
        )
    )


def default_line(record: ExchangeRecord, flags: str, upstream: tuple[str, str]) -> bytes:
    """`flags` and `upstream` are what `flags_text` and `upstream_of` return for the record."""
    r = record
    time = r.upstream_service_time_ms
    service_time = b"-" if time is None else decimal(time)
    templates: Templates = _TEMPLATES
    between = templates.find(r, flags, upstream)
    line = filled(between, r, _safe(r.original_target), service_time, _safe(r.request_id))
    verdict = r.verdict
    if verdict is not None and (verdict.audited or verdict.shadow):
        return line[:-1] + _noted(verdict).encode() + b"\n"
    return line


def _template(of: Repeated) -> str:
    method, protocol, status, flags, detail, termination, failure, forwarded_for, user_agent, authority = of[:10]
    host, upstream_local, cluster, local_ip, local_port, peer_ip, peer_port, server_name, route = of[10:]
    return (
        f'[\0] "{escaped(method)} \0 {protocol or "-"}" {status} {flags} '
        f'{_word(detail)} {_word(termination)} "{_text(failure)}" \0 \0 \0 \0 '
        f'"{escaped(forwarded_for)}" "{escaped(user_agent)}" "\0" "{escaped(authority)}" '
        f'"{host}" {_word(cluster or "")} {upstream_local} {_address(local_ip, local_port)} '
        f"{_address(peer_ip, peer_port)} {_word(server_name)} {_word(route)}\n"
    )


_TEMPLATES = Templates(_template)


def _noted(verdict: Verdict) -> str:
    """Return the text behind Envoy's fields: audits and dry runs, as a policy requests them."""
    audited = f' audit="{_text(",".join(it.name for it in verdict.audited))}"' if verdict.audited else ""
    return audited + (f' dry_run="{_text(",".join(map(str, verdict.shadow)))}"' if verdict.shadow else "")


_UNSAFE = bytes(byte for byte in range(256) if byte < 0x20 or byte >= 0x7F or byte in b'"\\')
MARKED = bytes(ord("?") if byte in _UNSAFE else byte for byte in range(256))
"""Translates each value that needs an escape, in a text or in JSON, into another one."""
_ESCAPES = {byte: f"\\x{byte:02x}" for byte in _UNSAFE}


def escaped(value: bytes | None) -> str:
    """Return client-controlled text, escaped; `-` if it is empty."""
    if not value:
        return "-"
    text = value.decode("latin-1")
    return text if value.translate(MARKED) == value else text.translate(_ESCAPES)


def _safe(value: bytes | None) -> bytes:
    """The same as `escaped`, in bytes."""
    if not value:
        return b"-"
    return value if value.translate(MARKED) == value else escaped(value).encode()


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
