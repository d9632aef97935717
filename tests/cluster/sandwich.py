"""A waypoint behind a ztunnel that ends the tunnels in the waypoint's pod, and speaks the PROXY protocol.

Either ours, which then carries the waypoint's own connections, too; or a foreign one: an Envoy, which an overlay adds
to the pods. istiod signs its certificate, for the waypoint's account. The waypoint makes its tunnels itself there.
"""

import json
from pathlib import Path
from typing import Any

from tests.cluster import istio
from tests.cluster.controllers import apply
from tests.cluster.images import PYWAYPOINT
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import until
from tests.kit.envoy import BINARY, sandwiching
from tests.kit.envoy_pieces import Certificate

OURS, FOREIGN = "redirected", "sandwich"
"""The Gateways."""
_PORT = 15088
_FILES = Path("/foreign")
_CERTIFICATE = Certificate(_FILES / "chain.pem", _FILES / "key.pem", _FILES / "roots.pem")


def apply_to(namespace: str, name: str) -> None:
    """Makes one of the Gateways, and waits until it is ready."""
    about = {"name": name, "namespace": namespace}
    overlay = {
        "deployment": json.dumps(_redirected() if name == OURS else _with_envoy()),
        "horizontalPodAutoscaler": json.dumps({"spec": {"minReplicas": 1}}),
    }
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {**about, "annotations": {"ambient.istio.io/waypoint-inbound-binding": f"PROXY/{_PORT}"}},
        "spec": {
            "gatewayClassName": "pywaypoint",
            "infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": name}},
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    }
    apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": overlay}, gateway)
    if name == FOREIGN:
        until(lambda: kubectl("get", "serviceaccount", name, "-n", namespace, "--ignore-not-found"))
        apply({"apiVersion": "v1", "kind": "Secret", "metadata": about, "stringData": _secret(namespace)})
    kubectl("wait", "-n", namespace, "--for=condition=Programmed", f"gateway/{name}", "--timeout=120s")
    pods = ("get", "pods", "-n", namespace, "-l", f"gateway.networking.k8s.io/gateway-name={name}", "-o", "yaml")
    until(lambda: name == FOREIGN or "ambient.istio.io/redirection: enabled" in kubectl(*pods))


def _secret(namespace: str) -> dict[str, str]:
    chain, key, roots = istio.certificate(namespace, FOREIGN)
    config = sandwiching(_CERTIFICATE, listen=("0.0.0.0", 15008), to=("127.0.0.1", _PORT))
    return {"chain.pem": chain, "key.pem": key, "roots.pem": roots, "envoy.json": json.dumps(config)}


def _waypoint() -> dict[str, Any]:
    """It leaves port 15008 to the ztunnel, and listens on loopback alone."""
    listens = {"WAYPOINT_LISTEN": "127.0.0.1:15009", "WAYPOINT_PROXY_LISTEN": f"127.0.0.1:{_PORT}"}
    return {"name": "waypoint", "env": [{"name": name, "value": value} for name, value in listens.items()]}


def _redirected() -> dict[str, Any]:
    template = {"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}, "spec": {"containers": [_waypoint()]}}
    return {"spec": {"template": template}}


def _with_envoy() -> dict[str, Any]:
    ztunnel = {
        "name": "foreign-ztunnel",
        "image": PYWAYPOINT,
        "imagePullPolicy": "Never",
        "command": [
            "/envoy/envoy",
            "-c",
            f"{_FILES}/envoy.json",
            "-l",
            "warning",
            "--disable-hot-restart",
            "--concurrency",
            "1",
        ],
        "volumeMounts": [
            {"name": "envoy", "mountPath": "/envoy", "readOnly": True},
            {"name": "foreign", "mountPath": str(_FILES), "readOnly": True},
        ],
    }
    volumes = [
        {"name": "envoy", "hostPath": {"path": str(BINARY.parent)}},
        {"name": "foreign", "secret": {"secretName": FOREIGN}},
    ]
    return {"spec": {"template": {"spec": {"containers": [_waypoint(), ztunnel], "volumes": volumes}}}}
