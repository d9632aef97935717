"""Pieces of Envoy's configuration: listeners, clusters, tunnels, TLS."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_API = "type.googleapis.com/envoy."

Address = tuple[str, int]
Config = dict[str, Any]
DESTINATION = "envoy.filters.listener.original_dst"
"""The filter that gives an internal listener the address of an endpoint."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of one identity, and of the roots that verify its peers. `peers` are the only identities that it talks
    to, if there are any."""

    chain: Path
    key: Path
    roots: Path
    peers: tuple[str, ...] = ()


def typed(kind: str, **fields: Any) -> Config:
    return {"@type": _API + kind, **fields}


def named(name: str, kind: str, **fields: Any) -> Config:
    return {"name": name, "typed_config": typed(kind, **fields)}


def bootstrap(listeners: list[Config], clusters: list[Config]) -> Config:
    internal = named("internal", "extensions.bootstrap.internal_listener.v3.InternalListener")
    return {"static_resources": {"listeners": listeners, "clusters": clusters}, "bootstrap_extensions": [internal]}


def place(address: Address) -> Config:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}


def listener(name: str, address: Address | None, filter_: Config, **chain: Any) -> Config:
    """Return a listener; an internal one without an address."""
    where: Config = {"internal_listener": {}} if address is None else {"address": place(address)}
    return {"name": name, **where, "filter_chains": [{"filters": [filter_], **chain}]}


def http(name: str, routes: list[Config], **extra: Any) -> Config:
    manager = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    router = named("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    return named(
        "http", manager, stat_prefix=name, route_config={"virtual_hosts": hosts}, http_filters=[router], **extra
    )


def terminate(cluster: str) -> Config:
    upgrade = [{"upgrade_type": "CONNECT", "connect_config": {}}]
    route = {
        "match": {"connect_matcher": {}},
        "route": {"cluster": cluster, "timeout": "0s", "upgrade_configs": upgrade},
    }
    return http(
        "terminate",
        [route],
        codec_type="HTTP2",
        http2_protocol_options={"allow_connect": True},
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
    )


def tunnel(cluster: str, authority: str, headers: Mapping[str, str] | None = None, **extra: Any) -> Config:
    """`headers` are those of the CONNECT request."""
    kind = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
    added = [{"header": {"key": name, "value": value}} for name, value in (headers or {}).items()]
    config = {"hostname": authority, "headers_to_add": added}
    return named("tunnel", kind, stat_prefix="tunnel", cluster=cluster, tunneling_config=config, **extra)


def json_log(path: Path, **fields: str) -> Config:
    """An access log of one JSON object a line."""
    kind = "extensions.access_loggers.file.v3.FileAccessLog"
    return named("file", kind, path=str(path), log_format={"json_format": fields})


def text_log(path: Path, text: str) -> Config:
    """An access log with this format string."""
    kind = "extensions.access_loggers.file.v3.FileAccessLog"
    extension = named("query", "extensions.formatter.req_without_query.v3.ReqWithoutQuery")
    return named("file", kind, path=str(path), log_format={**_text(text), "formatters": [extension]})


def tcp(cluster: str, values: dict[int, str]) -> Config:
    """`values` are formats of those in a header of the PROXY protocol (TLVs), by type."""
    kind = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
    added = [{"type": it, "format_string": _text(format_)} for it, format_ in values.items()]
    return named("tcp", kind, stat_prefix=cluster, cluster=cluster, proxy_protocol_tlvs=added)


def filter_state(values: Iterable[tuple[str, str | None, str]]) -> Config:
    """Return a filter that keeps values for internal listeners: name, factory if it has another name, and format."""
    kept = [
        {
            "object_key": name,
            **({"factory_key": factory} if factory else {}),
            "format_string": _text(format_),
            "shared_with_upstream": "ONCE",
        }
        for name, factory, format_ in values
    ]
    kind = "extensions.filters.http.set_filter_state.v3.Config"
    return named("envoy.filters.http.set_filter_state", kind, on_request_headers=kept)


def _text(format_: str) -> Config:
    return {"text_format_source": {"inline_string": format_}}


def cluster(name: str, where: Config, **extra: Any) -> Config:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": where}}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment, **extra}


def internal_cluster(name: str, listener: str, passthrough: list[Config] | None = None, **extra: Any) -> Config:
    """`passthrough` is the endpoint metadata that the listener gets."""
    raw = named("raw", "extensions.transport_sockets.raw_buffer.v3.RawBuffer")
    kind = "extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport"
    where = {"envoy_internal_address": {"server_listener_name": listener}}
    socket_ = named("internal", kind, transport_socket=raw, passthrough_metadata=passthrough or [])
    return cluster(name, where, transport_socket=socket_, **extra)


def tunnelled_endpoint(place: Address) -> Config:
    """An endpoint as in Istio's waypoint: the listener `connect_originate` makes a tunnel to it."""
    name = f"{place[0]}:{place[1]}"
    where = {"envoy_internal_address": {"server_listener_name": "connect_originate", "endpoint_id": name}}
    return {"endpoint": {"address": where}, "metadata": {"filter_metadata": {DESTINATION: {"local": name}}}}


def hbone_cluster(certificate: Certificate, to: Address, *, name: str = "hbone", **extra: Any) -> Config:
    tls = named(
        "tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=common_tls(certificate)
    )
    return cluster(name, place(to), transport_socket=tls, **http2(allow_connect=True), **extra)


def proxy_protocol_cluster(name: str, to: Address) -> Config:
    kind = "extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
    raw = named("raw", "extensions.transport_sockets.raw_buffer.v3.RawBuffer")
    header = {"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}}
    return cluster(name, place(to), transport_socket=named("proxy", kind, config=header, transport_socket=raw))


def http2(**options: bool) -> Config:
    """Return the options of a cluster whose endpoints speak HTTP/2."""
    kind = "extensions.upstreams.http.v3.HttpProtocolOptions"
    explicit = typed(kind, explicit_http_config={"http2_protocol_options": options})
    return {"typed_extension_protocol_options": {f"envoy.{kind}": explicit}}


def server_tls(certificate: Certificate) -> Config:
    kind = "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return named("tls", kind, require_client_certificate=True, common_tls_context=common_tls(certificate))


def common_tls(certificate: Certificate) -> Config:
    names = [{"san_type": "URI", "matcher": {"exact": it}} for it in certificate.peers]
    return {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(certificate.chain)},
                "private_key": {"filename": str(certificate.key)},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(certificate.roots)},
            "match_typed_subject_alt_names": names,
        },
    }
