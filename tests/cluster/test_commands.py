"""The commands that ask running programs, against pods, with no more rights than docs/commands.md names."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import mesh
from tests.cluster.applications import ASKS, metadata, objects
from tests.cluster.control_plane import KUBECONFIG
from tests.cluster.controllers import apply
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAMESPACE = "commands-test"
NODE = "node-a"
GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": metadata("waypoint", NAMESPACE),
    "spec": {"gatewayClassName": "pywaypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
}
RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets"], "verbs": ["get"]},
]


def rights(namespace: str) -> Iterator[dict[str, Any]]:
    """The rights of the account `operator` in a namespace."""
    api = "rbac.authorization.k8s.io"
    yield {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": metadata(NAMESPACE, namespace), "rules": RULES}
    yield {
        "apiVersion": f"{api}/v1",
        "kind": "RoleBinding",
        "metadata": metadata(NAMESPACE, namespace),
        "roleRef": {"apiGroup": api, "kind": "Role", "name": NAMESPACE},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": NAMESPACE}],
    }


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A client that asks the Service `app` through a waypoint all the time, and the kubeconfig of an operator."""
    mesh.install()
    labels = {"istio.io/dataplane-mode": "ambient"}
    try:
        apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("operator", NAMESPACE)}
        apply(account, *rights(NAMESPACE), *rights(mesh.NAMESPACE), GATEWAY, *objects(NAMESPACE, ASKS, NODE))
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Available", "deployments", "--all", "--timeout=120s")
        config = yaml.safe_load(KUBECONFIG.read_text())
        token = kubectl("create", "token", "operator", "-n", NAMESPACE).strip()
        for it in config["users"]:
            it["user"] = {"token": token}
        path = tmp_path_factory.mktemp("operator") / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        yield path
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        kubectl("delete", "role,rolebinding", NAMESPACE, "-n", mesh.NAMESPACE, "--ignore-not-found")


def ask(kubeconfig: Path, *args: str, program: str = "waypoint.cli") -> str:
    command = [sys.executable, "-c", f"from {program} import main; main()", *args]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_waypoint_is_asked_by_what_owns_its_pods(kubeconfig: Path) -> None:
    for name in ("deploy/waypoint", "gateway/waypoint"):
        found = json.loads(ask(kubeconfig, "status", "-n", NAMESPACE, name, "-o", "json"))
        assert {(it["program"], it["gateway"], it["ready"]) for it in found} == {
            ("waypoint", f"{NAMESPACE}/waypoint", True)
        }
        assert all(it["name"].startswith(f"{NAMESPACE}/waypoint-") for it in found)

    assert f"app.{NAMESPACE}" in ask(kubeconfig, "routes", "-n", NAMESPACE, "deploy/waypoint")
    assert "HTTPRoute" not in ask(kubeconfig, "explain", "-n", NAMESPACE, "deploy/waypoint", "--to", f"app.{NAMESPACE}")


def test_requests_of_pods_are_tapped_and_counted(kubeconfig: Path) -> None:
    tap = ("tap", "-n", NAMESPACE, "deploy/waypoint", "--source", f"{NAMESPACE}/client", "--count", "3", "-o", "json")
    events = [json.loads(it) for it in ask(kubeconfig, *tap).splitlines()]
    rates = ask(kubeconfig, "top", "-n", NAMESPACE, "deploy/waypoint", "--interval", "3", "--count", "1", "-o", "json")

    assert [it["destination"]["service"] for it in events] == [f"app.{NAMESPACE}.svc.cluster.local"] * 3
    assert sum(row["requests"] for it in rates.splitlines() for row in json.loads(it)["rows"]) > 0


def test_ztunnels_are_asked_by_their_node(kubeconfig: Path) -> None:
    def workloads() -> str:
        return ask(kubeconfig, "workloads", "--node", NODE, "-w", f"namespace={NAMESPACE}", program="l4.ztunnel.cli")

    until(lambda: "client" in workloads())
    assert "HBONE" in workloads()
    assert len(json.loads(ask(kubeconfig, "status", "-n", mesh.NAMESPACE, "-o", "json", program="l4.ztunnel.cli"))) == 2
    held = ask(kubeconfig, "connections", "--node", NODE, "-w", f"namespace={NAMESPACE}", program="l4.ztunnel.cli")
    assert "outbound" in held


def test_a_drained_waypoint_is_taken_out_of_its_service_until_the_drain_is_taken_back(kubeconfig: Path) -> None:
    def ready() -> set[str]:
        path = "{.items[*].endpoints[*].conditions.ready}"
        label = "-l=kubernetes.io/service-name=waypoint"
        return set(kubectl("get", "endpointslices", "-n", NAMESPACE, label, "-o", f"jsonpath={path}").split())

    until(lambda: ready() == {"true"})
    ask(kubeconfig, "drain", "-n", NAMESPACE, "deploy/waypoint")
    until(lambda: ready() == {"false"})
    ask(kubeconfig, "drain", "-n", NAMESPACE, "deploy/waypoint", "--undo")
    until(lambda: ready() == {"true"})


def test_a_bug_report_of_a_cluster_has_its_programs_logs_and_objects(tmp_path: Path) -> None:
    ask(KUBECONFIG, "bug-report", "-n", NAMESPACE, "deploy/waypoint", "-f", str(tmp_path / "report"))

    with tarfile.open(tmp_path / "report") as archive:
        names = [it.name.removeprefix("bug-report/") for it in archive]
        failures = archive.extractfile("bug-report/failures.txt")
        assert failures is not None
        assert failures.read() == b""
    for program in ("waypoint", "ztunnel", "agent", "controller"):
        assert any(it.startswith(f"programs/{program}/") and it.endswith("/log.txt") for it in names)
    assert any(it.startswith("programs/waypoint/") and it.endswith("/config_dump.json") for it in names)
    assert {"objects/Gateway.json", "objects/Pod.json"} <= set(names)
    assert {f"events/namespaces/{it}.json" for it in (NAMESPACE, mesh.NAMESPACE)} | {"events/nodes.json"} <= set(names)
