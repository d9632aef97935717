"""What `istioctl proxy-config` reads of an Envoy, as far as a waypoint has the same: clusters, endpoints, certificates.

Listeners and route configurations are Envoy's own; for them istioctl says which of these parts is missing.
"""

import base64
from collections.abc import Iterable
from typing import Any

from l4.identity.certificate import Certificate
from l4.identity.source import NoCertificate, OwnCertificate
from policies.attributes import ClusterName

_TYPES = "type.googleapis.com/envoy"
_CLUSTER = f"{_TYPES}.config.cluster.v3.Cluster"
_SECRET = f"{_TYPES}.extensions.transport_sockets.tls.v3.Secret"


def configs(clusters: Iterable[ClusterName], certificate: OwnCertificate) -> list[dict[str, object]]:
    """Return the sections of an Envoy's `/config_dump`. Never a private key."""
    try:
        secrets = _secrets(certificate.get().certificate)
    except NoCertificate:
        secrets = []
    return [
        {
            "@type": f"{_TYPES}.admin.v3.ClustersConfigDump",
            "dynamic_active_clusters": [
                {"cluster": {"@type": _CLUSTER, "name": name, "type": "EDS"}} for name in clusters
            ],
        },
        {"@type": f"{_TYPES}.admin.v3.SecretsConfigDump", "dynamic_active_secrets": secrets},
    ]


def _secrets(certificate: Certificate) -> list[dict[str, object]]:
    chain = {"tls_certificate": {"certificate_chain": _inline(certificate.chain_pem)}}
    roots = {"validation_context": {"trusted_ca": _inline(certificate.trust_bundle_pem)}}
    return [
        {"name": name, "secret": {"@type": _SECRET, "name": name, **content}}
        for name, content in (("default", chain), ("ROOTCA", roots))
    ]


def _inline(pem: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(pem).decode()}


def cluster_statuses(described: Iterable[dict[str, Any]]) -> dict[str, object]:
    """Return Envoy's `/clusters?format=json` for destinations as `waypoint.upstream.state` describes them. If several
    workers have an endpoint, it counts as ejected if one has ejected it."""
    ejected: dict[str, dict[str, bool]] = {}
    for cluster in described:
        endpoints = ejected.setdefault(cluster["name"], {})
        for endpoint in cluster["endpoints"]:
            is_ejected = endpoint["ejected_for_seconds"] is not None
            endpoints[endpoint["address"]] = endpoints.get(endpoint["address"], False) or is_ejected
    return {
        "cluster_statuses": [
            {"name": name, "host_statuses": [_host(*it) for it in endpoints.items()]}
            for name, endpoints in ejected.items()
        ]
    }


def _host(address: str, is_ejected: bool) -> dict[str, object]:
    ip, _, port = address.rpartition(":")
    return {
        "address": {"socket_address": {"address": ip.strip("[]"), "port_value": int(port)}},
        "health_status": {"eds_health_status": "HEALTHY", "failed_outlier_check": is_ejected},
    }
