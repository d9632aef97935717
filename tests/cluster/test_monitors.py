"""deploy/prometheus/monitors.yaml finds every program in the cluster, and the boards have data of each kind of program.

A real Prometheus scrapes what the PodMonitors select.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster import mesh
from tests.cluster.kubectl import kubectl
from tests.cluster.machine import NODES
from tests.cluster.mesh import NAMESPACE
from tests.contracts.test_modules import ROOT
from tests.kit.boards import queries_of
from tests.kit.prometheus import Prometheus, prometheus

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's package prometheus is not installed"),
]

MONITORS = ROOT / "deploy" / "prometheus" / "monitors.yaml"
OF_WAYPOINTS = "monitors-test"
COMPONENTS = {"proxy", "ztunnel", "ztunnel-agent", "controller"}


def job_of(monitor: dict[str, Any]) -> dict[str, Any]:
    """What the Prometheus Operator scrapes for a PodMonitor in the mesh's namespace: ports of that name of pods with
    these labels."""
    spec = monitor["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    kept = [it["regex"] for it in endpoint.get("relabelings", ())]  # the container's name, in all that we have
    where = ("-A",) if spec.get("namespaceSelector", {}).get("any") else ("-n", NAMESPACE)
    selector = ",".join(f"{name}={value}" for name, value in spec["selector"]["matchLabels"].items())
    groups = []
    for pod in json.loads(kubectl("get", "pods", *where, "-l", selector, "-o", "json"))["items"]:
        labels = {re.sub(r"\W", "_", it): pod["metadata"]["labels"].get(it, "") for it in spec["podTargetLabels"]}
        labels |= {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}
        groups += [
            {"targets": [f"{pod['status']['podIP']}:{port['containerPort']}"], "labels": labels}
            for container in pod["spec"]["containers"]
            for port in container["ports"]
            if port["name"] == endpoint["port"] and kept in ([], [container["name"]])
            if pod["metadata"]["namespace"] in (NAMESPACE, OF_WAYPOINTS)  # others may be about to go
        ]
    job = f"{NAMESPACE}/{monitor['metadata']['name']}"
    return {"job_name": job, "metrics_path": endpoint["path"], "static_configs": groups}


@pytest.fixture(scope="module")
def waypoint() -> Iterator[None]:
    metadata = {"name": OF_WAYPOINTS}
    gateway = mesh.waypoint(OF_WAYPOINTS)
    try:
        kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        kubectl("apply", "-f", "-", given=gateway)
        kubectl("wait", "-n", OF_WAYPOINTS, "gateway/waypoint", "--for=condition=Programmed", "--timeout=120s")
        both = "--for=jsonpath={.status.readyReplicas}=2"  # the autoscaler asks for the second
        kubectl("wait", "-n", OF_WAYPOINTS, "deployment/waypoint", both, "--timeout=120s")
        yield
    finally:
        kubectl("delete", "namespace", OF_WAYPOINTS, "--ignore-not-found", "--timeout=100s")


@pytest.fixture(scope="module")
def judge(waypoint: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    monitors = yaml.safe_load_all(MONITORS.read_text())
    folder, node = tmp_path_factory.mktemp("prometheus"), NODES[0]
    with prometheus(folder, map(job_of, monitors), ip=node.ip, wrapped=node.enter) as judge:
        deadline = time.monotonic() + 60
        while judge.query("up == 0") or not judge.query("min(count_over_time(istio_build[20s])) >= 3"):
            assert time.monotonic() < deadline, (judge.query("up"), judge.query("istio_build"))
            time.sleep(0.5)
        yield judge


def test_each_pod_is_scraped_once_and_named(judge: Prometheus) -> None:
    names = "jsonpath={range .items[*]}{.metadata.name} {end}"
    pods = [*kubectl("-n", NAMESPACE, "get", "pods", "-o", names).split()]
    pods += kubectl("-n", OF_WAYPOINTS, "get", "pods", "-o", names).split()
    scraped = [labels["pod"] for labels, _ in judge.query("up")]

    assert sorted(scraped) == sorted(pods)


def test_kiali_and_the_boards_can_tell_ztunnels_and_waypoints(judge: Prometheus) -> None:
    found = judge.query("count by (component, app, gateway_networking_k8s_io_gateway_name) (istio_build)")

    assert {tuple(sorted(labels.items())) for labels, _ in found} == {
        (("component", "controller"),),
        (("component", "ztunnel-agent"),),
        (("app", "ztunnel"), ("component", "ztunnel")),
        (("component", "proxy"), ("gateway_networking_k8s_io_gateway_name", "waypoint")),
    }


@pytest.mark.parametrize("component", sorted(COMPONENTS - {"proxy"}))
def test_the_board_of_programs_shows_each_kind(judge: Prometheus, component: str) -> None:
    panels = ("CPU", "Memory", "Share of file descriptors", "Problems of the configuration", "Age of the configuration")
    queries = queries_of("programs", **{"$component": component})

    for name, query in queries.items():
        if name.split(": ")[1] in panels:
            assert judge.query(query), name
