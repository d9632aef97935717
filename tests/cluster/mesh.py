"""The mesh in the cluster: the chart of this checkout, installed by Helm as an operator installs it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.images import PYWAYPOINT
from tests.cluster.kubectl import kubectl
from tests.cluster.tools import BIN, run
from tests.cluster.waiting import until
from tests.image.buildah import ROOT

CHART = ROOT / "deploy" / "chart"
NAMESPACE = "pywaypoint-system"
_TIMEOUT = "180s"


def waypoint(namespace: str, *, overlay: str = "") -> dict[str, Any]:
    """A namespace's Gateway for a waypoint, with a ConfigMap of this name as the overlay of its objects."""
    spec: dict[str, Any] = {
        "gatewayClassName": "pywaypoint",
        "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
    }
    if overlay:
        spec["infrastructure"] = {"parametersRef": {"group": "", "kind": "ConfigMap", "name": overlay}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "waypoint", "namespace": namespace},
        "spec": spec,
    }


def helm(*arguments: str) -> str:
    """Runs Helm as the cluster's administrator and gives its output. A failure raises SystemExit with what it said."""
    return run([str(BIN / "helm"), f"--kubeconfig={KUBECONFIG}", *arguments])


def values() -> list[str]:
    """Arguments of Helm: the images of the nodes, which no registry has."""
    repository, _, tag = PYWAYPOINT.rpartition(":")
    image = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
    return [f"--set=image.{name}={value}" for name, value in image.items()]


def install(chart: Path = CHART, *more: str) -> None:
    """Installs the chart, or upgrades it, with `more` arguments of Helm, and waits until all is ready."""
    # Another test may have applied the CRDs before.
    where = ("-n", NAMESPACE, "--create-namespace", "--take-ownership")
    helm("upgrade", "--install", "pywaypoint", str(chart), *where, *values(), *more)
    _wait()


@contextmanager
def put_back() -> Iterator[None]:
    """After the block, the release is what it was before. If there was none, it is the chart of this checkout."""
    found = json.loads(helm("list", "-n", NAMESPACE, "--filter=^pywaypoint$", "-o", "json"))
    yield
    if found:
        helm("rollback", "pywaypoint", found[0]["revision"], "-n", NAMESPACE)
        _wait()
    else:
        install()


def _wait() -> None:
    """Until all is ready, and the pods that were replaced are gone."""
    for it in ("deployment/pywaypoint-controller", "daemonset/ztunnel", "daemonset/pywaypoint-agent"):
        kubectl("-n", NAMESPACE, "rollout", "status", it, f"--timeout={_TIMEOUT}")
    ending = "jsonpath={.items[*].metadata.deletionTimestamp}"
    until(lambda: not kubectl("-n", NAMESPACE, "get", "pods", "-o", ending))
