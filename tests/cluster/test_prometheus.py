"""A real Prometheus scrapes the mesh as Istio's own sample does. Kiali's and Grafana's questions find what is about us.

The scrape configuration and the boards are files of the Istio module that the cluster's tools pin.
"""

import json
import math
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import mesh, tools
from tests.cluster.applications import ASKS, objects
from tests.cluster.controllers import apply
from tests.cluster.kubectl import kubectl
from tests.cluster.machine import NODES
from tests.cluster.waiting import until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus: apt install prometheus"),
]

NAMESPACE = "prometheus-test"
PORT = 29090
RANGE = "15s"
CLIENT, APP = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/client", f"spiffe://cluster.local/ns/{NAMESPACE}/sa/app"
BOARDS = ("istio-mesh-dashboard.gen.json", "ztunnel-dashboard.gen.json")
NOT_OURS = {
    "CPU Usage": "the kubelet's metric, of a container called istio-proxy",
    "Memory Usage": "the kubelet's metric, of a container called istio-proxy",
    "DNS Request": "ztunnels here resolve no names for pods",
    "XDS Connections": "only with a discovery server",
    "XDS Pushes": "only with a discovery server",
}
KIALI = (
    "source_cluster, source_workload_namespace, source_workload, source_canonical_service, source_canonical_revision, "
    "destination_cluster, destination_service_namespace, destination_service, destination_service_name, "
    "destination_workload_namespace, destination_workload, destination_canonical_service, "
    "destination_canonical_revision"
)


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The labels and the `value` of each series that the query gives."""
        address = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            found = json.loads(answer.read())["data"]["result"]
        return [{**it["metric"], "value": float(it["value"][1])} for it in found]

    def numbers(self, query: str) -> list[float]:
        return [it["value"] for it in self.ask(query) if not math.isnan(it["value"])]

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def istio_file(path: str) -> str:
    return (tools.module_folder("istio", "istio.io/istio") / path).read_text()


def scrape_job() -> dict[str, Any]:
    """Of Istio's sample, that which follows the annotations of pods."""
    documents = yaml.safe_load_all(istio_file("samples/addons/prometheus.yaml"))
    text = next(it["data"]["prometheus.yml"] for it in documents if it and it["kind"] == "ConfigMap")
    job: dict[str, Any] = next(
        it for it in yaml.safe_load(text)["scrape_configs"] if it["job_name"] == "kubernetes-pods"
    )
    return job


def pods() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl("get", "pods", "-A", "-o", "json"))["items"]
    return [it for it in found if "podIP" in it["status"]]


def discovered(pod: dict[str, Any]) -> dict[str, Any]:
    """What Prometheus' own discovery knows of a pod; Debian's build of Prometheus is without it."""
    about, status = pod["metadata"], pod["status"]
    labels = {"namespace": about["namespace"], "pod_name": about["name"], "pod_node_name": pod["spec"]["nodeName"]}
    labels |= {"pod_ip": status["podIP"], "pod_phase": status["phase"]}
    for kind in ("label", "annotation"):
        named = about.get(f"{kind}s", {}).items()
        labels |= {f"pod_{kind}_{re.sub('[^a-zA-Z0-9_]', '_', name)}": value for name, value in named}
    return {"targets": [status["podIP"]], "labels": {f"__meta_kubernetes_{name}": it for name, it in labels.items()}}


@contextmanager
def running(folder: Path) -> Iterator[Prometheus]:
    """One in a node, where the addresses of pods are reachable."""
    job = scrape_job() | {"file_sd_configs": [{"files": [str(folder / "pods.json")]}]}
    del job["kubernetes_sd_configs"]
    (folder / "pods.json").write_text(json.dumps(list(map(discovered, pods()))))
    configuration = {"global": {"scrape_interval": "2s", "scrape_timeout": "2s"}, "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    node = NODES[0]
    command = node.enter(
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={node.ip}:{PORT}",
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            it = Prometheus(f"http://{node.ip}:{PORT}")
            until(it.is_ready)
            yield it
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    mesh.install()
    gateway = mesh.waypoint(NAMESPACE)
    labels = {"istio.io/dataplane-mode": "ambient"}
    try:
        apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}, gateway)
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", "gateway/waypoint", "--timeout=120s")
        apply(*objects(NAMESPACE, ASKS, NODES[0].name))
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Available", "deployments", "--all", "--timeout=120s")
        with running(tmp_path_factory.mktemp("prometheus")) as it:
            yield it
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


def edges(found: list[dict[str, Any]], *labels: str) -> set[tuple[str, ...]]:
    return {tuple(it[name] for name in labels) for it in found}


def test_kialis_graph_has_the_calls_through_the_waypoint_without_an_empty_name(prometheus: Prometheus) -> None:
    more = "request_protocol, response_code, grpc_response_status, response_flags"
    series = f'istio_requests_total{{reporter=~"waypoint|source",source_workload_namespace="{NAMESPACE}"}}'
    query = f"sum(rate({series}[{RANGE}])) by ({KIALI}, {more}) > 0"

    found = until(lambda: prometheus.ask(query))

    assert edges(found, "source_workload", "destination_service_name", "destination_workload", "response_code") == {
        ("client", "app", "app", "200")
    }
    assert {it["request_protocol"] for it in found} == {"http"}
    names = KIALI.split(", ")
    assert [name for it in found for name in names if it.get(name, "") in ("", "unknown")] == []


def test_kialis_graph_has_the_connections_that_ztunnels_carry(prometheus: Prometheus) -> None:
    series = f'istio_tcp_sent_bytes_total{{app="ztunnel",source_workload_namespace="{NAMESPACE}"}}'
    query = f"sum(rate({series}[{RANGE}])) by ({KIALI}, reporter, response_flags) > 0"
    labels = ("reporter", "source_workload", "destination_service_name", "destination_workload")

    wanted = {
        ("source", "client", "direct", "app"),
        ("destination", "client", "direct", "app"),
        ("source", "client", "app", "waypoint"),
        ("destination", "waypoint", "app", "app"),
    }
    until(lambda: wanted <= edges(prometheus.ask(query), *labels))


@pytest.mark.parametrize("family", ["istio_requests_total", "istio_tcp_sent_bytes_total"])
def test_kialis_lock_is_on(prometheus: Prometheus, family: str) -> None:
    reporter = "waypoint" if family == "istio_requests_total" else "source|destination"
    series = f'{family}{{reporter=~"{reporter}",source_workload="client",source_workload_namespace="{NAMESPACE}"}}'
    by = "connection_security_policy, source_principal, destination_principal, destination_workload"
    query = f"sum(rate({series}[{RANGE}])) by ({by}) > 0"

    found = until(lambda: [it for it in prometheus.ask(query) if it["destination_workload"] == "app"])

    assert edges(found, "connection_security_policy", "source_principal", "destination_principal") == {
        ("mutual_tls", CLIENT, APP)
    }


def test_kialis_response_times_are_there(prometheus: Prometheus) -> None:
    which = f'reporter="waypoint",destination_workload_namespace="{NAMESPACE}"'
    series = f"istio_request_duration_milliseconds_bucket{{{which}}}"
    query = f"histogram_quantile(0.95, sum(rate({series}[{RANGE}])) by (le, {KIALI}))"

    assert all(0 < it < 5000 for it in until(lambda: prometheus.numbers(query)))


@pytest.mark.usefixtures("prometheus")
def test_kiali_knows_a_waypoint_by_the_label_of_its_pods() -> None:
    found = kubectl(
        "get", "pods", "-n", NAMESPACE, "-l", "gateway.istio.io/managed=istio.io-mesh-controller", "-o", "name"
    )

    assert found.startswith("pod/waypoint-")


@pytest.mark.parametrize("board", BOARDS)
def test_no_panel_about_us_is_empty(prometheus: Prometheus, board: str) -> None:
    questions = {
        (panel["title"], target["expr"].replace("$__rate_interval", RANGE))
        for panel in panels(json.loads(istio_file(f"manifests/addons/dashboards/{board}"))["panels"])
        for target in panel.get("targets", [])
        if panel["title"] not in NOT_OURS
    }
    assert len(questions) > 5
    until(lambda: prometheus.numbers(f"sum(rate(istio_requests_total[{RANGE}])) > 0"))

    for title, query in sorted(questions):
        assert prometheus.numbers(query), f"{title}: {query}"


def panels(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for it in found:
        yield it
        yield from panels(it.get("panels", []))
