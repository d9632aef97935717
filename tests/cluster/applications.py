"""A small application in a namespace of a test: `app` serves HTTP and `client` calls it, both in Python.

There are two Services, `app` and `direct`. The first goes through the namespace's waypoint, if it has one.
"""

from typing import Any

from tests.cluster.images import PYWAYPOINT

SERVES = """
from http.server import *
SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
ThreadingHTTPServer(("", 8080), SimpleHTTPRequestHandler).serve_forever()
"""
HOLDS_CONNECTIONS = """
import socket, time
while True:
    try:
        held = [socket.create_connection((it, 80), 5) for it in ("app", "direct")]
        for it in held:
            it.sendall(b"GET / HTTP/1.1\\r\\nhost: app\\r\\n\\r\\n")
        time.sleep(20)
    except OSError:
        time.sleep(1)
"""
ASKS = """
import time, urllib.request
while True:
    for it in ("app", "direct"):
        try:
            urllib.request.urlopen(f"http://{it}/", timeout=5).read()
        except OSError as error:
            print(error, flush=True)
    time.sleep(0.05)
"""


def metadata(name: str, namespace: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": labels or {}}


def objects(namespace: str, client: str, node: str) -> list[dict[str, Any]]:
    """Both Services, and both programs on a node, as Deployments of one pod. `client` is what the client does."""
    return [
        *(_service(name, namespace) for name in ("app", "direct")),
        *_deployment("app", namespace, SERVES, node),
        *_deployment("client", namespace, client, node),
    ]


def _service(name: str, namespace: str) -> dict[str, Any]:
    port = {"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}
    labels = {"istio.io/use-waypoint": "waypoint"} if name == "app" else {}
    spec = {"selector": {"app": "app"}, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name, namespace, labels), "spec": spec}


def _deployment(name: str, namespace: str, program: str, node: str) -> list[dict[str, Any]]:
    labels = {"app": name, "version": "v1"}
    container = {"name": "app", "image": PYWAYPOINT, "imagePullPolicy": "Never", "command": ["python3", "-c", program]}
    pod = {
        "serviceAccountName": name,
        "containers": [container],
        "nodeName": node,
        "terminationGracePeriodSeconds": 1,
    }
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, namespace)},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(name, namespace), "spec": spec},
    ]
