"""Waypoints and the controller where Pod Security enforces "restricted", and the node's programs, which it refuses."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.kubectl import KubectlFailed, kubectl
from tests.cluster.mesh import CHART, helm, waypoint

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAMESPACE = "restricted-test"


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    metadata = {"name": NAMESPACE, "labels": labels}
    try:
        kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def pods_of(kind: str) -> dict[str, Any]:
    """By name, the pods of the chart's Deployments or DaemonSets, in this namespace."""
    objects = yaml.safe_load_all(helm("template", "pywaypoint", str(CHART)))
    return {
        it["metadata"]["name"]: {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": it["metadata"]["name"], "namespace": NAMESPACE},
            "spec": {**it["spec"]["template"]["spec"], "serviceAccountName": "default"},
        }
        for it in objects
        if it and it["kind"] == kind
    }


def refusal(pod: object) -> str:
    """Why the API server would not take the pod, or an empty text."""
    try:
        kubectl("create", "--dry-run=server", "-f", "-", given=pod)
    except KubectlFailed as error:
        return str(error)
    return ""


def test_a_waypoint_runs() -> None:
    gateway = waypoint(NAMESPACE)
    kubectl("apply", "-f", "-", given=gateway)

    kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")


def test_the_controllers_pod_is_taken() -> None:
    (pod,) = pods_of("Deployment").values()

    assert refusal(pod) == ""


@pytest.mark.parametrize("name", ["ztunnel", "pywaypoint-agent"])
def test_the_nodes_programs_need_a_privileged_namespace(name: str) -> None:
    assert 'violates PodSecurity "restricted:latest"' in refusal(pods_of("DaemonSet")[name])
