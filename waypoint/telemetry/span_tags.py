"""The name and the attributes of a request's span."""

from collections.abc import Mapping
from functools import lru_cache

from policies.balancing.endpoint import UNKNOWN_WORKLOAD, WorkloadLabels
from policies.cel import text_of
from policies.telemetry import MAX_TAG_VALUE, SpanTag
from waypoint.telemetry.record import ExchangeRecord, flags_text, grpc_code

_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"})


def span_name(record: ExchangeRecord) -> str:
    """Return the span's name as in Istio: `reviews.default.svc.cluster.local:9080/*`. Paths would create too many
    names."""
    return f"{record.service.hostname}:{record.downstream_local[1]}/*"


def span_attributes(record: ExchangeRecord) -> dict[str, str | int]:
    """Return OpenTelemetry's stable HTTP attributes, and the tags by which mesh tools recognize Istio's spans.

    The query is omitted, because applications put secrets there. Of a path, its first characters are shown, as many as
    Envoy shows.
    """
    r = record
    path = r.original_target.partition(b"?")[0][:MAX_TAG_VALUE].decode("latin-1")
    destination = r.endpoint.workload if r.endpoint else UNKNOWN_WORKLOAD
    attributes: dict[str, str | int | None] = {
        "http.request.method": r.method.decode("ascii") if r.method in _METHODS else "_OTHER",
        "http.response.status_code": r.status or None,
        "http.route": r.route_name,
        "url.scheme": "http",
        "url.path": path,
        "server.address": r.service.hostname,
        "server.port": r.downstream_local[1],
        "client.address": r.peer.ip,
        "network.protocol.name": "http",
        "network.protocol.version": r.protocol.removeprefix("HTTP/"),
        "user_agent.original": r.user_agent[:MAX_TAG_VALUE].decode("latin-1") if r.user_agent else None,
        "error.type": _error_type(r),
        "rpc.system": "grpc" if r.is_grpc else None,
        "rpc.grpc.status_code": int(grpc_code(r.grpc_status)) if r.grpc_status else None,
        "component": "proxy",
        "http.method": r.method.decode("latin-1"),
        "http.url": f"http://{(r.authority or b'').decode('latin-1')}{path}",
        "http.protocol": r.protocol,
        "http.status_code": str(r.status),
        "peer.address": r.peer.ip,
        "error": "true" if r.status >= 500 else None,
        "response_flags": flags_text(r.flags),
        "request_size": r.bytes_received,
        "response_size": r.bytes_sent,
        "guid:x-request-id": r.request_id.decode("latin-1") if r.request_id else None,
        "upstream_cluster": r.cluster,
        **_workload("istio.source_", r.source),
        **_workload("istio.destination_", destination),
    }
    rule = r.policy.tracing if r.policy is not None else None
    if rule is not None:
        if not rule.has_istio_tags:
            attributes = {name: value for name, value in attributes.items() if not name.startswith("istio.")}
        attributes |= {tag.name: _value(tag, r) for tag in rule.tags}
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


@lru_cache(maxsize=1024)
def _workload(prefix: str, labels: WorkloadLabels) -> Mapping[str, str]:
    return {
        f"{prefix}workload": labels.workload,
        f"{prefix}namespace": labels.namespace,
        f"{prefix}cluster_id": labels.cluster,
        f"{prefix}canonical_service": labels.canonical_service,
        f"{prefix}canonical_revision": labels.canonical_revision,
        f"{prefix}app": labels.app,
        f"{prefix}app_version": labels.version,
    }


def _value(tag: SpanTag[ExchangeRecord], record: ExchangeRecord) -> str:
    if tag.header:
        found = next((value for name, value in record.headers if name == tag.header), None)
        return tag.default if found is None else found.decode("latin-1")[:MAX_TAG_VALUE]
    if tag.variable:
        return record.span.variables.get(tag.variable, tag.default) if record.span is not None else tag.default
    value = tag.format.value(record) if tag.format is not None else None
    return tag.default if value is None else text_of(value)[:MAX_TAG_VALUE]


def _error_type(record: ExchangeRecord) -> str | None:
    """Return the reason of a local error, or the status of an upstream's error. None without an error."""
    if record.status and record.status < 500:
        return None
    return str(record.status) if record.detail == "via_upstream" else record.detail or "_OTHER"
