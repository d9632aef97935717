import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.laptop import environment, mesh_up

pytestmark = pytest.mark.timeout(300)  # one laptop mesh runs at a time: others may have to finish first
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
INGRESS = "127.0.0.1:18080"
PROGRAMS = """
- {image: web, command: ["{python}", -m, http.server, "{port}", --bind, "{address}"]}
"""


def written(folder: Path, manifests: str) -> list[str]:
    """Arguments for manifests and programs in files of the folder."""
    (folder / "manifests.yaml").write_text(manifests)
    (folder / "programs.yaml").write_text(PROGRAMS)
    return [str(folder / "manifests.yaml"), "--programs", str(folder / "programs.yaml")]


def failing(folder: Path, manifests: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "waypoint.cli", "mesh", "up", *written(folder, manifests), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(folder))


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_manifests_without_anything_to_run_are_said(tmp_path: Path) -> None:
    answer = failing(tmp_path, WEB.replace("image: web", "image: other"))

    assert answer.returncode == 1
    problem, error = answer.stderr.splitlines()
    assert "no program is configured for the image other" in problem
    assert error == "error: nothing to run: no workload of the manifests has a program for its images"


@pytest.mark.parametrize("kind", ["batch/v1, kind: Job", "batch/v1, kind: CronJob", "argoproj.io/v1, kind: Rollout"])
def test_what_does_not_run_here_is_named_as_left_out(tmp_path: Path, kind: str) -> None:
    job = f"{{apiVersion: {kind}, metadata: {{name: once}}}}"

    answer = failing(tmp_path, f"{job}\n---\n{WEB.replace('image: web', 'image: other')}")

    name = kind.split()[-1]
    assert f"{tmp_path}/manifests.yaml:1: {name} default/once: is ignored; the laptop mesh runs" in answer.stderr


@pytest.mark.parametrize(
    ("ingress", "sentence"),
    [
        ("front", "error: --ingress default/front: the manifests do not contain this Service"),
        ("web:80", "error: --ingress default/web: the Service has no port 80; it has 8080"),
    ],
)
def test_an_ingress_that_leads_nowhere_ends_it(tmp_path: Path, ingress: str, sentence: str) -> None:
    answer = failing(tmp_path, WEB, "--ingress", ingress)

    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == sentence


def test_a_port_in_use_is_said_with_the_flag_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        answer = failing(tmp_path, WEB, "--ingress", f"web=127.0.0.1:{port}")

    assert answer.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: another program uses this address" in answer.stderr
    assert "--ingress default/web=ADDRESS:PORT" in answer.stderr
    assert answer.stdout == ""


def test_a_request_crosses_the_mesh_with_the_identities_of_ingress_and_program(tmp_path: Path) -> None:
    with mesh_up(tmp_path, *written(tmp_path, WEB), "--ingress", f"web={INGRESS}") as mesh:
        answer = get(mesh.addresses["page", "default/web, through the mesh"])

        metrics = get(mesh.addresses["metrics", "ztunnel"])
        assert "Directory listing" in answer
        assert 'source_principal="spiffe://cluster.local/ns/default/sa/ingress"' in metrics
        assert 'destination_principal="spiffe://cluster.local/ns/default/sa/default"' in metrics
        assert 'connection_security_policy="mutual_tls"' in metrics


def test_edits_start_and_stop_programs_while_the_mesh_runs(tmp_path: Path) -> None:
    args = written(tmp_path, WEB)
    with mesh_up(tmp_path, *args) as mesh:
        written(tmp_path, WEB.replace("spec:\n  template", "spec:\n  replicas: 2\n  template"))
        until(lambda: "default/web-1 is ready" in mesh.said)
        three = len(mesh.children())

        written(tmp_path, WEB)
        until(lambda: len(mesh.children()) == 2)

        assert three == 3
        assert "exited" not in mesh.said


def test_ctrl_c_leaves_no_program_behind(tmp_path: Path) -> None:
    with mesh_up(tmp_path, *written(tmp_path, WEB), "--ingress", f"web={INGRESS}") as mesh:
        children = mesh.children()

        status = mesh.stop()

        assert status == 0
        assert len(children) == 2
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
        assert "killed" not in mesh.said


def test_a_second_mesh_says_in_one_sentence_that_one_is_running(tmp_path: Path) -> None:
    with mesh_up(tmp_path, *written(tmp_path, WEB)) as mesh:
        answer = mesh.run("up", *written(tmp_path, WEB))

        assert answer.returncode == 1
        assert answer.stderr == (
            f"error: a laptop mesh is already running (process {mesh.process.pid}); "
            "stop it with Ctrl-C in its terminal, then try again\n"
        )


TOOL = """
---
apiVersion: v1
kind: Pod
metadata: {name: tool}
spec: {serviceAccountName: tool, containers: [{name: tool, image: tool, env: [{name: GREETING, value: hello}]}]}
"""
SLEEPER = '- {image: tool, command: ["{python}", -c, "import time; time.sleep(600)"]}\n'


def test_a_command_runs_as_a_pod_and_calls_with_its_identity(tmp_path: Path) -> None:
    args = written(tmp_path, WEB + TOOL)
    (tmp_path / "programs.yaml").write_text(PROGRAMS + SLEEPER)
    with mesh_up(tmp_path, *args) as mesh:
        script = "import os, sys, urllib.request as r; print(os.environ['GREETING'], r.urlopen(sys.argv[1]).status)"

        ran = mesh.run("exec", "tool", "--", sys.executable, "-c", script, "http://web:8080/")
        called = mesh.run("call", "web:8080/", "--as", "tool")
        many = mesh.run("call", "web/nothing", "--as", "web", "-n", "10", "-c", "4")
        named = mesh.run("call", "web/", "--as", "web", "-H", "Host: other")
        malformed = mesh.run("call", "web/", "--as", "web", "-H", "no colon")
        unknown = mesh.run("call", "web/", "--as", "nobody")
        unseen = mesh.run("call", "mail/", "--as", "tool")

        metrics = get(mesh.addresses["metrics", "ztunnel"])
        assert (ran.stdout, ran.stderr) == ("hello 200\n", "")
        assert called.stdout.startswith("HTTP/1.1 200 OK\n")
        assert "Directory listing" in called.stdout
        assert many.stdout.splitlines()[0] == "    10 × 404"
        assert named.stdout.startswith("HTTP/1.1 200 OK\n")
        assert malformed.returncode == 2
        assert "'no colon' is not of the form NAME: VALUE" in malformed.stderr
        assert 'source_principal="spiffe://cluster.local/ns/default/sa/tool"' in metrics
        assert (unknown.returncode, unknown.stderr) == (
            1,
            "Error: the mesh has no pod nobody; it has tool, web, web-0\n",
        )
        assert (unseen.returncode, unseen.stderr) == (1, "Error: default/tool sees no Service mail; it sees web\n")


def test_without_a_mesh_a_call_says_how_to_start_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "waypoint.cli", "mesh", "call", "web/", "--as", "web"]

    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(tmp_path))

    assert answer.returncode == 1
    assert "no laptop mesh is running; start one with `waypoint mesh up`" in answer.stderr


def test_another_system_is_told_what_works_there(tmp_path: Path) -> None:
    script = "import sys, urllib.request; sys.platform = 'darwin'; from waypoint.cli import main; main()"
    command = [sys.executable, "-c", script, "mesh", "up", *written(tmp_path, WEB)]

    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(tmp_path))

    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: the laptop mesh needs Linux")
