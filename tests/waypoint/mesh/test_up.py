import socket
import subprocess
import sys
from pathlib import Path

import pytest

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 8080}], selector: {app: web}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{containerPort: 8080}]}]}
"""
PROGRAMS = """
- {image: web, command: ["{python}", -m, http.server, "{port}", --bind, "{address}"]}
"""


def mesh_up(folder: Path, manifests: str, *args: str) -> subprocess.CompletedProcess[str]:
    (folder / "manifests.yaml").write_text(manifests)
    (folder / "programs.yaml").write_text(PROGRAMS)
    words = ["mesh", "up", str(folder / "manifests.yaml"), "--programs", str(folder / "programs.yaml"), *args]
    return subprocess.run([sys.executable, "-m", "waypoint.cli", *words], capture_output=True, text=True, timeout=30)


def test_manifests_without_anything_to_run_are_said(tmp_path: Path) -> None:
    answer = mesh_up(tmp_path, WEB.replace("image: web", "image: other"))

    assert answer.returncode == 1
    problem, error = answer.stderr.splitlines()
    assert "no program stands in for the image other" in problem
    assert error == "error: nothing to run: no Deployment of the manifests has a program for its images"


def test_other_workloads_than_deployments_are_named_as_left_out(tmp_path: Path) -> None:
    answer = mesh_up(tmp_path, WEB.replace("kind: Deployment", "kind: StatefulSet"))

    assert (
        f"{tmp_path}/manifests.yaml:7: StatefulSet default/web: the laptop mesh runs Deployments only" in answer.stderr
    )


@pytest.mark.parametrize(
    ("ingress", "sentence"),
    [
        ("front", "error: --ingress default/front: the manifests have no such Service"),
        ("web:80", "error: --ingress default/web: the Service has no port 80; it has 8080"),
    ],
)
def test_an_ingress_that_leads_nowhere_ends_it(tmp_path: Path, ingress: str, sentence: str) -> None:
    answer = mesh_up(tmp_path, WEB, "--ingress", ingress)

    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == sentence


def test_a_port_in_use_is_said_with_the_flag_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        answer = mesh_up(tmp_path, WEB, "--ingress", f"web=127.0.0.1:{port}")

    assert answer.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: another program uses this address" in answer.stderr
    assert "--ingress default/web=ADDRESS:PORT" in answer.stderr
    assert answer.stdout == ""
