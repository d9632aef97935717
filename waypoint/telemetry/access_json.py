"""A line of the access log as a JSON object with Istio's fields, null for missing values.

The same as `LogFormat.of_labels(ISTIO_JSON)`, but what requests share is written once, as in `access_line`.
"""

import json
from functools import lru_cache

from policies.host_port import host_port
from waypoint.telemetry.access_line import MARKED, Repeated, Templates, filled
from waypoint.telemetry.record import ExchangeRecord

_NULL = "null"


def default_json(record: ExchangeRecord, flags: str, upstream: tuple[str, str]) -> bytes:
    """`flags` and `upstream` are what `flags_text` and `upstream_of` return for the record."""
    r = record
    time = r.upstream_service_time_ms
    service_time = b"null" if time is None else b'"%d"' % time
    templates: Templates = _TEMPLATES
    between = templates.find(r, flags, upstream)
    return filled(between, r, _quoted(r.original_target), service_time, _quoted(r.request_id))


def _template(of: Repeated) -> str:
    method, protocol, status, flags, detail, termination, failure, forwarded_for, user_agent, authority = of[:10]
    host, upstream_local, cluster, local_ip, local_port, peer_ip, peer_port, server_name, route = of[10:]
    return (
        f'{{"start_time":"\0","route_name":{_text(route)},'
        f'"method":{_bytes(method)},"path":\0,"protocol":{_text(protocol)},'
        f'"response_code":{status},"response_flags":"{flags}",'
        f'"response_code_details":{_word(detail)},"connection_termination_details":{_word(termination)},'
        f'"bytes_received":\0,"bytes_sent":\0,"duration":\0,"upstream_service_time":\0,'
        f'"x_forwarded_for":{_bytes(forwarded_for)},"user_agent":{_bytes(user_agent)},'
        f'"request_id":\0,"authority":{_bytes(authority)},'
        f'"upstream_host":{_upstream(host)},"upstream_cluster":{_text(cluster or "")},'
        f'"upstream_local_address":{_upstream(upstream_local)},'
        f'"downstream_local_address":{json.dumps(host_port(local_ip, local_port))},'
        f'"downstream_remote_address":{json.dumps(host_port(peer_ip, peer_port))},'
        f'"requested_server_name":{_text(server_name)},'
        f'"upstream_transport_failure_reason":{_text(failure)}}}\n'
    )


_TEMPLATES = Templates(_template)


def _quoted(value: bytes | None) -> bytes:
    """Return client-controlled text; null if it is empty."""
    if not value:
        return b"null"
    if value.translate(MARKED) == value:
        return b'"' + value + b'"'
    return json.dumps(value.decode("latin-1")).encode()


def _bytes(value: bytes | None) -> str:
    return _quoted(value).decode()


def _upstream(text: str) -> str:
    return _NULL if text == "-" else json.dumps(text)


@lru_cache(maxsize=4096)
def _text(text: str) -> str:
    return json.dumps(text) if text else _NULL


def _word(text: str) -> str:
    return _text(text.replace(" ", "_"))
