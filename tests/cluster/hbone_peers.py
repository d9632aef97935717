"""Envoy as a client of HBONE and as the server of it, with an identity and as strict as a proxy of a mesh.

It writes who was at the other end, and what the CONNECT said, as one JSON object a line.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.kit import envoy_pieces as pieces
from tests.kit.envoy_pieces import Address, Certificate, Config

_RBAC = "extensions.filters.http.rbac.v3.RBAC"
BAGGAGE = "k8s.namespace.name=made-up,k8s.pod.name=made-up"
CONNECT_HEADERS = ("baggage", "forwarded", "traceparent", "x-forwarded-client-cert", "x-forwarded-for")
"""Those that a server of HBONE writes down."""
FORWARDED = 'for=192.0.2.66;host="made.up"'


def client(entries: Iterable[tuple[Address, Certificate, Address, str]], *, source_ip: str, log: Path) -> Config:
    """Plain TCP in, tunnels out. Each entry is where to listen, as whom, the HBONE port to call, and the authority. Its
    CONNECT tells lies about the caller, which nobody may believe."""
    listeners: list[Config] = []
    clusters: dict[tuple[Certificate, Address], Config] = {}
    lies = {"baggage": BAGGAGE, "forwarded": FORWARDED, "x-forwarded-client-cert": "URI=spiffe://made/up"}
    written = pieces.json_log(log, listened="%DOWNSTREAM_LOCAL_ADDRESS%", peer="%UPSTREAM_PEER_URI_SAN%")
    own = {"upstream_bind_config": {"source_address": {"address": source_ip, "port_value": 0}}}
    for number, (listen, certificate, to, authority) in enumerate(entries):
        name = f"hbone-{len(clusters)}"
        cluster = clusters.setdefault((certificate, to), pieces.hbone_cluster(certificate, to, name=name, **own))
        tunnel = pieces.tunnel(
            cluster["name"],
            authority,
            lies,
            access_log=[written],
            access_log_options={"flush_access_log_on_connected": True},
        )
        listeners.append(pieces.listener(f"in-{number}", listen, tunnel))
    return pieces.bootstrap(listeners, list(clusters.values()))


@dataclass(frozen=True)
class Place:
    """A pod's HBONE address, its certificate, where its application is, and the identities that may reach it. After
    `lasts`, if it is given, each connection gets GOAWAY."""

    listen: Address
    certificate: Certificate
    app: str
    allowed: tuple[str, ...]
    lasts: str | None = None


def server(places: Iterable[Place], *, ports: Iterable[int], log: Path) -> Config:
    """HBONE in, plain TCP out. CONNECT is for one of the pod's `ports`, and by an allowed identity, else the answer is
    403."""
    listeners, clusters = [], []
    ports = list(ports)
    for number, it in enumerate(places):
        names = {port: f"app-{number}-{port}" for port in ports}
        clusters += [pieces.cluster(name, pieces.place((it.app, port))) for port, name in names.items()]
        manager = pieces.http(
            "terminate",
            [_connect(f"{it.listen[0]}:{port}", name) for port, name in names.items()],
            codec_type="HTTP2",
            http2_protocol_options={"allow_connect": True},
            upgrade_configs=[{"upgrade_type": "CONNECT"}],
            common_http_protocol_options={"max_connection_duration": it.lasts},
            access_log=[_terminated(log)],
            access_log_options={"flush_access_log_on_new_request": True},
        )
        manager["typed_config"]["http_filters"].insert(0, _only(it.allowed))
        tls = pieces.server_tls(it.certificate)
        listeners.append(pieces.listener(f"hbone-{number}", it.listen, manager, transport_socket=tls))
    return pieces.bootstrap(listeners, clusters)


def _connect(authority: str, cluster: str) -> Config:
    header = {"name": ":authority", "string_match": {"exact": authority}}
    upgrade = [{"upgrade_type": "CONNECT", "connect_config": {}}]
    route = {"cluster": cluster, "timeout": "0s", "upgrade_configs": upgrade}
    return {"match": {"connect_matcher": {}, "headers": [header]}, "route": route}


def _only(allowed: Iterable[str]) -> Config:
    principals = [{"authenticated": {"principal_name": {"exact": it}}} for it in allowed]
    policy = {"permissions": [{"any": True}], "principals": principals}
    return pieces.named("envoy.filters.http.rbac", _RBAC, rules={"action": "ALLOW", "policies": {"peers": policy}})


def _terminated(log: Path) -> Config:
    said = {name: f"%REQ({name})%" for name in CONNECT_HEADERS}
    return pieces.json_log(
        log, authority="%REQ(:authority)%", peer="%DOWNSTREAM_PEER_URI_SAN%", code="%RESPONSE_CODE%", **said
    )
