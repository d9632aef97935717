"""Istio's control plane in the cluster: istiod as a Deployment, by Istio's own charts, with its authority.

Charts and program are of the module that the cluster's tools pin. What istiod writes for itself, and leaves behind when
it is uninstalled, is deleted at the end.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from l4._proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from l4.control_plane import AUDIENCE
from l4.identity.authority import certificate_request
from l4.identity.istio_ca import METHOD
from policies.attributes import Identity
from tests.cluster import images, kubelets, mesh, tools
from tests.cluster.kubectl import forwarded, kubectl
from tests.cluster.machine import STATE
from tests.cluster.mesh import helm

NAMESPACE = "istio-system"
ADDRESS = f"istiod.{NAMESPACE}.svc:15012"
BESIDE = (f"ca.address={ADDRESS}", f"ztunnel.discovery.address={ADDRESS}", "waypoints.discovery=true")
"""Values of our chart: istiod signs, tells ztunnels what is in the mesh, and sends waypoints their endpoints."""
_IMAGE = "localhost/istiod:cluster"
_VALUES = (
    *("profile=ambient", f"trustedZtunnelNamespace={mesh.NAMESPACE}"),
    *(f"image={_IMAGE}", "global.imagePullPolicy=Never"),
    *("autoscaleEnabled=false", "resources.requests.cpu=50m", "resources.requests.memory=200Mi"),
)
_CLASSES = (
    "istio",
    "istio-east-west",
    "istio-remote",
    "istio-waypoint",
    "istio-agentgateway",
    "istio-agentgateway-waypoint",
)


@contextmanager
def installed() -> Iterator[None]:
    tools.install("istio")
    kubelets.import_image(images.of_program(_IMAGE, "pilot-discovery", STATE / "istiod.tar"))
    charts = tools.module_folder("istio", "istio.io/istio") / "manifests" / "charts"
    try:
        _install("istio-base", str(charts / "base"), "profile=ambient")
        _install("istiod", str(charts / "istio-control" / "istio-discovery"), *_VALUES)
        kubectl("-n", NAMESPACE, "rollout", "status", "deployment/istiod", "--timeout=180s")
        yield
    finally:
        _uninstall()


def certificate(namespace: str, account: str) -> tuple[str, str, str]:
    """Chain, key and roots of an account, from istiod's authority. All are PEM."""
    key, request = certificate_request(Identity("cluster.local", namespace, account))
    token = kubectl("create", "token", account, "-n", namespace, f"--audience={AUDIENCE}").strip()
    roots = json.loads(kubectl("get", "configmap", "istio-ca-root-cert", "-n", namespace, "-o", "json"))["data"]
    trusted = grpc.ssl_channel_credentials(roots["root-cert.pem"].encode())
    host = ADDRESS.partition(":")[0]
    with (
        forwarded(NAMESPACE, "istiod", 15012) as port,
        grpc.secure_channel(f"127.0.0.1:{port}", trusted, [("grpc.ssl_target_name_override", host)]) as channel,
    ):
        sign = channel.unary_unary(
            METHOD, IstioCertificateRequest.SerializeToString, IstioCertificateResponse.FromString
        )
        asked = IstioCertificateRequest(csr=request.decode(), validity_duration=3600)
        metadata = (("authorization", f"Bearer {token}"), ("clusterid", "Kubernetes"))
        *chain, root = sign(asked, metadata=metadata, timeout=10).cert_chain
    return "".join(chain), key.pem.decode(), root


def _install(release: str, chart: str, *values: str) -> None:
    helm("upgrade", "--install", release, chart, "-n", NAMESPACE, "--create-namespace", f"--set={','.join(values)}")


def _uninstall() -> None:
    for release in ("istiod", "istio-base"):
        helm("uninstall", release, "-n", NAMESPACE, "--ignore-not-found", "--wait")
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    kubectl("delete", "configmaps", "-A", "-l", "istio.io/config=true")
    kubectl("delete", "gatewayclasses", "--ignore-not-found", *_CLASSES)
    kubectl("delete", "crds", "-l", "app.kubernetes.io/part-of=istio")
