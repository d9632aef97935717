"""Deployments answer for their pods where a repository has none."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from waypoint.cli import cli

BOOKINFO = Path(__file__).parents[3] / "examples" / "bookinfo"

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio.io/use-waypoint: waypoint, istio.io/dataplane-mode: ambient}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: pywaypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{port: 80, name: http, targetPort: web}]}
---
"""
TEMPLATE = """
metadata: {labels: {app: app}}
spec: {serviceAccountName: app, containers: [{name: app, ports: [{name: web, containerPort: 8080}]}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}}
status: {podIP: 10.0.0.1}
"""


def controller(kind: str, template: str = TEMPLATE, replicas: int = 1) -> str:
    spec: dict[str, object] = {"template": "TEMPLATE", "replicas": replicas}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": {"template": "TEMPLATE"}}}
    head = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "app"}, "spec": spec}
    flow = ", ".join(f"{line.partition(':')[0]}: {line.partition(':')[2]}" for line in template.strip().splitlines())
    return json.dumps(head).replace('"TEMPLATE"', f"{{{flow}}}")


def explained(folder: Path, text: str, *args: str) -> str:
    (folder / "mesh.yaml").write_text(MESH + text)
    answer = CliRunner().invoke(cli, ["explain", "--resources", str(folder), "--to", "app:80", *args])
    assert answer.exit_code == 0, answer.output
    return answer.stdout


@pytest.mark.parametrize(
    "kind",
    ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "DaemonSet", "Rollout", "Job", "CronJob"],
)
def test_what_runs_pods_stands_for_one(tmp_path: Path, kind: str) -> None:
    told = explained(tmp_path, controller(kind))

    assert "default route → app.default:80" in told.splitlines()[0]
    assert f"endpoint (a pod of {kind} app):8080, app, by HBONE as spiffe://cluster.local/ns/default/sa/app" in told
    assert "these files contain no running Pods" in told


def test_a_pod_that_nobody_has_started_yet_stands_for_itself(tmp_path: Path) -> None:
    flow = ", ".join(TEMPLATE.strip().splitlines()).replace("labels:", "name: app, labels:")

    assert "(Pod app):8080" in explained(tmp_path, f"{{apiVersion: v1, kind: Pod, {flow}}}")


def test_json_says_what_is_assumed(tmp_path: Path) -> None:
    values = json.loads(explained(tmp_path, controller("Deployment"), "-o", "json"))

    assert len(values["assumptions"]) == 1
    assert values["outcomes"][0]["answer"] is None


def test_a_deployment_out_of_the_mesh_is_called_in_plain_tcp(tmp_path: Path) -> None:
    out = TEMPLATE.replace("{app: app}", "{app: app, istio.io/dataplane-mode: none}")

    assert "(a pod of Deployment app):8080, app, by plain TCP" in explained(tmp_path, controller("Deployment", out))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(controller("Deployment") + "\n---" + POD % ("other", "other"), id="pods are known"),
        pytest.param(controller("Deployment", replicas=0), id="no replicas"),
        pytest.param(controller("Deployment", TEMPLATE.replace("{app: app}", "{app: other}")), id="not selected"),
        pytest.param(controller("Deployment", TEMPLATE.replace("8080", "99999")), id="not valid"),
        pytest.param("", id="nothing"),
    ],
)
def test_nobody_stands_in_where_none_would_run(tmp_path: Path, text: str) -> None:
    told = explained(tmp_path, text)

    assert "503, no endpoint is ready" in told.splitlines()[0]
    assert "assumed" not in told


def test_bookinfo_as_it_stands_in_its_repository_answers() -> None:
    args = ["explain", "--resources", str(BOOKINFO / "platform"), "--resources", str(BOOKINFO / "gateway.yaml")]

    told = CliRunner().invoke(cli, [*args, "--resources", str(BOOKINFO / "routes.yaml"), "--to", "reviews:9080"]).stdout

    assert "503" not in told.splitlines()[0]
    assert "(a pod of Deployment reviews-v1):9080" in told
