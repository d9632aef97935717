"""A waypoint behind a foreign ztunnel, which ends the tunnels in the waypoint's pod, and speaks the PROXY protocol.

The ztunnel is an Envoy, which an overlay adds to the pods. istiod signs its certificate, for the waypoint's account.
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

NAME = "sandwich"
_PORT = 15088
_FILES = Path("/foreign")
_CERTIFICATE = Certificate(_FILES / "chain.pem", _FILES / "key.pem", _FILES / "roots.pem")


def apply_to(namespace: str) -> None:
    """Makes the Gateway `sandwich`, and waits until it is ready."""
    name = {"name": NAME, "namespace": namespace}
    overlay = {
        "deployment": json.dumps(_deployment()),
        "horizontalPodAutoscaler": json.dumps({"spec": {"minReplicas": 1}}),
    }
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {**name, "annotations": {"ambient.istio.io/waypoint-inbound-binding": f"PROXY/{_PORT}"}},
        "spec": {
            "gatewayClassName": "pywaypoint",
            "infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": NAME}},
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    }
    apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": overlay}, gateway)
    until(lambda: kubectl("get", "serviceaccount", NAME, "-n", namespace, "--ignore-not-found"))
    apply({"apiVersion": "v1", "kind": "Secret", "metadata": name, "stringData": _secret(namespace)})
    kubectl("wait", "-n", namespace, "--for=condition=Programmed", f"gateway/{NAME}", "--timeout=120s")


def _secret(namespace: str) -> dict[str, str]:
    chain, key, roots = istio.certificate(namespace, NAME)
    config = sandwiching(_CERTIFICATE, listen=("0.0.0.0", 15008), to=("127.0.0.1", _PORT))
    return {"chain.pem": chain, "key.pem": key, "roots.pem": roots, "envoy.json": json.dumps(config)}


def _deployment() -> dict[str, Any]:
    """The waypoint leaves port 15008 to the ztunnel, and listens on loopback alone."""
    listens = {"WAYPOINT_LISTEN": "127.0.0.1:15009", "WAYPOINT_PROXY_LISTEN": f"127.0.0.1:{_PORT}"}
    waypoint = {"name": "waypoint", "env": [{"name": name, "value": value} for name, value in listens.items()]}
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
        {"name": "foreign", "secret": {"secretName": NAME}},
    ]
    return {"spec": {"template": {"spec": {"containers": [waypoint, ztunnel], "volumes": volumes}}}}
