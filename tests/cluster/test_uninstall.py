"""What an upgrade and an uninstall do to pods that run: they stay, and so does what they say to each other.

Everybody in the cluster feels these tests. At the end, the mesh is installed as it was.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import mesh
from tests.cluster.images import PYWAYPOINT
from tests.cluster.kubectl import KubectlFailed, kubectl
from tests.cluster.machine import NODES
from tests.cluster.tools import BIN, run
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAMESPACE = "uninstall-test"
OTHER_TAG = "another"
ANNOTATION = "ambient.istio.io/redirection"


def pod(name: str, node: str) -> dict[str, Any]:
    """A web server with a probe that notices within a second that it is not reached."""
    container = {
        "name": "web",
        "image": PYWAYPOINT,
        "imagePullPolicy": "Never",
        "command": ["python3", "-m", "http.server", "8080", "--directory", "/opt"],
        "readinessProbe": {
            "httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5
        },
    }  # fmt: skip
    metadata = {"name": name, "namespace": NAMESPACE}
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "waypoint", "namespace": NAMESPACE},
    "spec": {"gatewayClassName": "pywaypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
}


@pytest.fixture(scope="module", autouse=True)
def pods() -> Iterator[None]:
    """A pod of the mesh on each node, and a waypoint."""
    repository = PYWAYPOINT.rpartition(":")[0]
    for node in NODES:
        images = [str(BIN / "ctr"), f"--address={node.folder}/containerd.sock", "--namespace=k8s.io", "images"]
        run([*images, "tag", "--force", PYWAYPOINT, f"{repository}:{OTHER_TAG}"])
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    kubectl("create", "namespace", NAMESPACE)
    try:
        mesh.install()
        kubectl("label", "namespace", NAMESPACE, "istio.io/dataplane-mode=ambient")
        items = [pod("near", NODES[0].name), pod("far", NODES[1].name), GATEWAY]
        kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items})
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/near", "pod/far", "--timeout=120s")
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")
        until(is_redirected)
        yield
    finally:
        mesh.install()
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def found(kind: str, name: str, namespace: str = NAMESPACE) -> Any:
    return json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json"))


def address(name: str) -> str:
    return str(found("pod", name)["status"]["podIP"])


def network_of(name: str) -> Path:
    """The network namespace of a pod, by its address."""
    for path in sorted(Path("/var/run/netns").glob("cni-*")):
        shown = subprocess.run(
            ["nsenter", f"--net={path}", "ip", "-o", "address"], capture_output=True, text=True, check=False
        )
        if f"inet {address(name)}/" in shown.stdout:
            return path
    raise AssertionError(f"no network namespace has the address of pod {name}")


def rules_in(name: str) -> str:
    """Tables, and rules of routing, that are ours in a pod."""
    network = [f"--net={network_of(name)}"]
    tables = run(["nsenter", *network, "nft", "list", "tables"])
    routing = run(["nsenter", *network, "ip", "rule", "show", "pref", "32764"])
    return (tables + routing).strip()


def annotations() -> list[str | None]:
    return [found("pod", it)["metadata"].get("annotations", {}).get(ANNOTATION) for it in ("near", "far")]


def is_redirected() -> bool:
    return annotations() == ["enabled"] * 2 and all("pywaypoint" in rules_in(it) for it in ("near", "far"))


def calls(caller: str, callee: str) -> str:
    """The status of a request from one pod to the other."""
    code = "import sys, urllib.request as it; print(it.urlopen(sys.argv[1], timeout=10).status)"
    url = f"http://{address(callee)}:8080/"
    return kubectl("exec", "-n", NAMESPACE, caller, "--", "python3", "-c", code, url).strip()


def assert_probes_pass() -> None:
    """Whoever becomes unready within some probes has failed one."""
    for it in ("near", "far"):
        with pytest.raises(KubectlFailed, match="timed out"):
            kubectl("wait", "-n", NAMESPACE, f"pod/{it}", "--for=condition=Ready=false", "--timeout=4s")
        assert found("pod", it)["status"]["containerStatuses"][0]["restartCount"] == 0


def waypoint_image() -> str:
    spec = found("deployment", "waypoint")["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"])


def test_an_upgrade_with_other_values_rolls_ztunnels_and_waypoints() -> None:
    repository = PYWAYPOINT.rpartition(":")[0]

    mesh.install(mesh.CHART, f"--set=image.tag={OTHER_TAG}", "--set=ztunnel.env.DRAIN_DELAY_SECONDS=7")

    until(lambda: waypoint_image() == f"{repository}:{OTHER_TAG}")
    kubectl("rollout", "status", "deployment/waypoint", "-n", NAMESPACE, "--timeout=120s")
    (container,) = found("daemonset", "ztunnel", mesh.NAMESPACE)["spec"]["template"]["spec"]["containers"]
    assert {"name": "DRAIN_DELAY_SECONDS", "value": "7"} in container["env"]
    selector = ("-n", NAMESPACE, "-l", "gateway.networking.k8s.io/gateway-name=waypoint")
    images = kubectl("get", "pods", *selector, "--field-selector=status.phase=Running", "-o", "jsonpath={..image}")
    assert f"{repository}:{OTHER_TAG}" in images.split()
    assert is_redirected()
    assert calls("near", "far") == calls("far", "near") == "200"
    assert_probes_pass()


def test_after_an_uninstall_pods_have_plain_networking_and_a_new_install_takes_them_in_again() -> None:
    before = [found("pod", it)["metadata"]["uid"] for it in ("near", "far")]
    assert is_redirected()

    mesh.helm("uninstall", "pywaypoint", "-n", mesh.NAMESPACE, "--wait")

    until(lambda: annotations() == [None, None], 20)
    assert [rules_in(it) for it in ("near", "far")] == ["", ""]
    for node in NODES:
        assert "pywaypoint" not in run(node.enter("nft", "list", "tables"))
    assert calls("near", "far") == calls("far", "near") == "200"
    assert_probes_pass()
    assert found("gateway", "waypoint")["spec"]["gatewayClassName"] == "pywaypoint"
    assert kubectl("get", "crd", "ratelimitpolicies.pywaypoint.dev", "-o", "name")

    mesh.install()

    until(is_redirected)
    until(lambda: waypoint_image() == PYWAYPOINT)
    kubectl("rollout", "status", "deployment/waypoint", "-n", NAMESPACE, "--timeout=120s")
    assert calls("near", "far") == calls("far", "near") == "200"
    assert_probes_pass()
    assert [found("pod", it)["metadata"]["uid"] for it in ("near", "far")] == before
