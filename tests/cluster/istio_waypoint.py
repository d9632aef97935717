"""Istio's waypoint: Envoy with the configuration that istiod makes for it.

istiod tells what it sends to a proxy that is connected, so a client of its discovery stands in for one. Our Envoy has
none of the filters of Istio's, which are for telemetry: they are left out. Certificates are files.
Endpoints are given: istiod has them from EndpointSlices, which may not have addresses of loopback.
"""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct

from l4._proto.xds_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node
from l4.xds.client import METHOD
from tests.cluster.istiod import Istiod
from tests.kit import envoy_pieces as pieces
from tests.kit.aio import run
from tests.kit.envoy_pieces import Address, Certificate, Config

_TYPES = ("cluster.v3.Cluster", "listener.v3.Listener")
_ANSWER_SECONDS = 20.0
_OF_ISTIO_ALONE = "type.googleapis.com/udpa.type.v1.TypedStruct"
"""The form of a filter that is no part of Envoy."""


def node(name: str, namespace: str, ip: str, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Node:
    """What a waypoint's pod says of itself."""
    its = Struct()
    its.update(
        {
            "NAME": name,
            "NAMESPACE": namespace,
            "CLUSTER_ID": "Kubernetes",
            "LABELS": dict(labels),
            "ANNOTATIONS": dict(annotations),
            "INSTANCE_IPS": ip,
        }
    )
    return Node(id=f"waypoint~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local", cluster=name, metadata=its)


def programmed(istiod: Istiod, its: Node) -> dict[str, list[Config]]:
    """The clusters and listeners that istiod has for the waypoint now."""
    metadata = (("authorization", f"Bearer {istiod.token.read_text()}"), ("clusterid", "Kubernetes"))
    name = its.id.split("~")[2]

    async def told() -> bytes:
        credentials = grpc.ssl_channel_credentials(istiod.root.read_bytes())
        async with grpc.aio.secure_channel(istiod.address, credentials) as channel, asyncio.timeout(_ANSWER_SECONDS):
            call = channel.stream_stream(
                METHOD, DeltaDiscoveryRequest.SerializeToString, DeltaDiscoveryResponse.FromString
            )(metadata=metadata)
            for kind in _TYPES:
                await call.write(DeltaDiscoveryRequest(node=its, type_url=f"type.googleapis.com/envoy.config.{kind}"))
                answer = await call.read()
                await call.write(DeltaDiscoveryRequest(type_url=answer.type_url, response_nonce=answer.nonce))
            return await asyncio.to_thread(_get, f"http://{istiod.debugging}/debug/config_dump?proxyID={name}")

    sections = json.loads(run(told(), 30))["configs"]
    clusters = next(it["dynamicActiveClusters"] for it in sections if "dynamicActiveClusters" in it)
    listeners = next(it["dynamicListeners"] for it in sections if "dynamicListeners" in it)
    return {
        "clusters": [it["cluster"] for it in clusters],
        "listeners": [it["activeState"]["listener"] for it in listeners],
    }


def waypoint(
    istiod: Istiod, its: Node, certificate: Certificate, endpoints: Callable[[str, int], list[Address]]
) -> Config:
    """HBONE in and out at the waypoint's address. `endpoints` are those of a host's port."""
    ip = its.id.split("~")[1]
    told = programmed(istiod, its)
    clusters = [_without_type(_runnable(it, certificate)) for it in told["clusters"]]
    listeners = [_without_type(_runnable(it, certificate)) for it in told["listeners"]]
    for it in listeners:
        if it["name"] == "connect_terminate":
            it["address"]["socketAddress"]["address"] = ip
    for it in clusters:
        if it["name"] == "connect_originate":
            it["upstreamBindConfig"] = {"sourceAddress": {"address": ip, "portValue": 0}}
        elif it["type"] == "EDS":
            _, port, _, host = it["name"].split("|")
            del it["edsClusterConfig"]
            it["type"] = "STATIC"
            named = [pieces.tunnelled_endpoint(place) for place in endpoints(host, int(port))]
            it["loadAssignment"] = {"clusterName": it["name"], "endpoints": [{"lbEndpoints": named}]}
    return pieces.bootstrap(listeners, clusters)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:
        return bytes(answer.read())


def _runnable(it: Any, certificate: Certificate) -> Any:
    """The same without what only Istio's Envoy has, and with certificates from files."""
    if isinstance(it, list):
        return [
            _runnable(part, certificate)
            for part in it
            if not (isinstance(part, dict) and part.get("typedConfig", {}).get("@type") == _OF_ISTIO_ALONE)
        ]
    if not isinstance(it, dict):
        return it
    found = {name: _runnable(value, certificate) for name, value in it.items() if name != "tracing"}
    if str(found.get("objectKey", "")).startswith(("io.istio.", "istio.")):
        found["factoryKey"] = "envoy.string"  # Istio's Envoy has factories of their names
    if found.pop("tlsCertificateSdsSecretConfigs", None):
        ours = pieces.common_tls(certificate)
        names = found.pop("combinedValidationContext")["defaultValidationContext"]
        found |= {
            "tlsCertificates": ours["tls_certificates"],
            "validationContext": {**names, "trustedCa": ours["validation_context"]["trusted_ca"]},
        }
    return found


def _without_type(resource: Config) -> Config:
    return {name: value for name, value in resource.items() if name != "@type"}
