"""A real Prometheus scrapes the laptop mesh. Kiali's queries return the numbers of a known load; the boards' panels,
and those of Istio's dashboards, have data; alerts fire and rest.

The tests build on each other: first a load that is known, then one that provokes everything, then the end of the mesh.
"""

import http.client
import math
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.kit.boards import queries_of
from tests.kit.laptop import TOP, LaptopMesh, mesh_up
from tests.kit.prometheus import METRICS_PATH, Labels, Prometheus, prometheus
from tests.kit.rate_limit_server import rate_limit_server

pytestmark = [pytest.mark.observability, pytest.mark.timeout(280)]

BOOKINFO = TOP / "examples" / "bookinfo"
ALERTS = TOP / "deploy" / "prometheus" / "alerts.yaml"
SERVICES = ("productpage", "tried", "details-v1", "productpage-v1", "reviews-v1", "reviews-v3", "ratings-v1", "sealed")
INGRESSES = {name: f"127.0.0.1:{port}" for port, name in enumerate(SERVICES, start=19080)}
PATHS = {
    "productpage": "/productpage",
    "productpage-v1": "/productpage",
    "ratings-v1": "/ratings/0",
    "sealed": "/ratings/0",
}
GRPC = "application/grpc"
PAGES = 40
WINDOW_SECONDS = 60


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what is in force beside Bookinfo, to be edited."""
    folder = tmp_path_factory.mktemp("manifests")
    (folder / "mesh.yaml").write_bytes(Path(__file__).with_name("mesh.yaml").read_bytes())
    return folder


@pytest.fixture(scope="module")
def mesh(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaptopMesh]:
    paths = [str(it) for it in (BOOKINFO / "platform", BOOKINFO / "gateway.yaml", manifests)]
    flags = [part for name, address in INGRESSES.items() for part in ("--ingress", f"{name}={address}")]
    folder = tmp_path_factory.mktemp("mesh")
    lost = {"ENDPOINT": "http://127.0.0.1:9", "TIMEOUT": "1"}  # no collector is there
    with (
        pytest.MonkeyPatch.context() as environment,
        rate_limit_server("127.0.0.1", 19191),
    ):
        for name, value in lost.items():
            environment.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
        with mesh_up(folder, *paths, "--programs", str(BOOKINFO / "programs.yaml"), *flags) as mesh:
            yield mesh


@pytest.fixture(scope="module")
def judge(mesh: LaptopMesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, with the alerts' rules, which don't wait before they fire."""
    folder = tmp_path_factory.mktemp("prometheus")
    rules = yaml.safe_load(ALERTS.read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule.pop("for", None)
    (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))
    targets = {
        target(mesh, "ztunnel"): {"namespace": "pywaypoint-system", "pod": "ztunnel-1", "app": "ztunnel"},
        target(mesh, "waypoint default/waypoint"): {
            "namespace": "default",
            "pod": "waypoint-1",
            "gateway_networking_k8s_io_gateway_name": "waypoint",
        },
    }
    groups = [{"targets": [address], "labels": labels} for address, labels in targets.items()]
    job = {"job_name": "mesh", "metrics_path": METRICS_PATH, "static_configs": groups}
    with prometheus(folder, [job], folder / "alerts.yaml") as judge:
        yield judge


def target(mesh: LaptopMesh, name: str) -> str:
    return mesh.addresses["metrics", name].removeprefix("http://").partition("/")[0]


def becomes(wanted: object, value: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (found := value()) != wanted:
        assert time.monotonic() < deadline, f"{found} instead of {wanted}"
        time.sleep(0.2)


def get(service: str, content_type: str = "text/plain") -> int:
    """The status of a request through the ingress; 0 if the connection broke off."""
    url = f"http://{INGRESSES[service]}{PATHS.get(service, '/reviews/0')}"
    body = b"\0\0\0\0\0" if content_type == GRPC else None
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 0


# -- Kiali -------------------------------------------------------------------------------------------------------------

NODES = (
    "source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,"
    "destination_cluster,destination_service_namespace,destination_service,destination_service_name,"
    "destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision"
)
RESPONSES = f"{NODES},request_protocol,response_code,grpc_response_status,response_flags"
SECURITY = (
    "source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,source_principal,"
    "destination_service_namespace,destination_service_name,destination_workload_namespace,destination_workload,"
    "destination_canonical_service,destination_canonical_revision,destination_principal,connection_security_policy"
)
EDGES = {
    ("ingress", "productpage", "productpage-v1"),
    ("productpage-v1", "details", "details-v1"),
    ("productpage-v1", "reviews-v2", "reviews-v2"),
    ("reviews-v2", "ratings", "ratings-v1"),
}


def of_kiali(metric: str, conditions: str, by: str) -> str:
    return f"round(sum(rate({metric}{{{conditions}}} [{WINDOW_SECONDS}s])) by ({by}) > 0,0.001)"


def edge(labels: Labels) -> tuple[str, str, str]:
    return labels["source_workload"], labels["destination_service_name"], labels["destination_workload"]


def test_kialis_queries_return_the_numbers_of_a_known_load(judge: Prometheus) -> None:
    by = "source_workload,destination_service_name,destination_workload"
    counts = f'sum(istio_requests_total{{reporter="waypoint"}}) by ({by})'

    def counted() -> dict[tuple[str, str, str], float]:
        return {edge(labels): value for labels, value in judge.query(counts)}

    assert get("productpage") == 200  # a series counts from its second sample on
    becomes(EDGES, lambda: set(counted()), seconds=10)
    becomes(1, lambda: len(judge.query("min(count_over_time(istio_requests_total[30s])) >= 4")), seconds=10)
    for _ in range(PAGES):
        assert get("productpage") == 200
    becomes(dict.fromkeys(EDGES, PAGES + 1), counted, seconds=10)
    becomes(2, lambda: len(judge.query("count_over_time(up[30s]) > 15")), seconds=30)

    outgoing = judge.query(
        of_kiali("istio_requests_total", 'reporter=~"waypoint|source",source_workload_namespace="default"', RESPONSES)
    )
    incoming = judge.query(
        of_kiali(
            "istio_requests_total",
            'reporter=~"waypoint|destination",destination_workload_namespace="default"',
            RESPONSES,
        )
    )
    for found in (outgoing, incoming):
        assert {edge(labels) for labels, _ in found} == EDGES
        for labels, value in found:
            assert value * WINDOW_SECONDS == pytest.approx(PAGES, rel=0.1)
            assert labels["response_code"] == "200"
            assert labels["response_flags"] == "-"
            assert labels["request_protocol"] == "http"
            assert set(RESPONSES.split(",")) - labels.keys() == {"grpc_response_status"}  # empty, as it is no gRPC
    bytes_sent = judge.query(
        of_kiali(
            "istio_tcp_sent_bytes_total",
            'reporter=~"waypoint|source",source_workload_namespace="default"',
            f"app,{NODES}",
        )
    )
    assert {labels["app"] for labels, _ in bytes_sent} == {"ztunnel"}
    assert {labels["source_workload"] for labels, _ in bytes_sent} == {source for source, _, _ in EDGES}
    secured = judge.query(
        of_kiali("istio_tcp_sent_bytes_total", 'reporter="destination",source_workload_namespace="default"', SECURITY)
    )
    assert {labels["connection_security_policy"] for labels, _ in secured} == {"mutual_tls"}
    assert all(labels["source_principal"].startswith("spiffe://cluster.local/ns/default/sa/") for labels, _ in secured)
    answered = judge.query(of_kiali("istio_response_bytes_sum", 'reporter="waypoint"', NODES))
    by_ztunnel = {
        labels["destination_workload"]: value for labels, value in secured if labels["source_workload"] == "waypoint"
    }
    for labels, value in answered:  # what the waypoint adds to a head is not on both sides
        assert by_ztunnel[labels["destination_workload"]] == pytest.approx(value, rel=0.15)


# -- Istio's dashboards ------------------------------------------------------------------------------------------------

HTTP = 'reporter=~"source|waypoint"'
TO_TRIED = f'{HTTP},destination_service=~"tried.default.svc.cluster.local"'
BY_WORKLOAD = "by (destination_workload, destination_workload_namespace, destination_service)"
OF_ISTIO = {
    "mesh: requests": f"round(sum(rate(istio_requests_total{{{HTTP}}}[1m])), 0.001)",
    "mesh: success rate": f'sum(rate(istio_requests_total{{{HTTP}, response_code!~"5.."}}[1m])) '
    f"/ sum(rate(istio_requests_total{{{HTTP}}}[1m]))",
    "mesh: 4xx": f'round(sum(rate(istio_requests_total{{{HTTP}, response_code=~"4.."}}[1m])), 0.001) or vector(0)',
    "mesh: 5xx": f'round(sum(rate(istio_requests_total{{{HTTP}, response_code=~"5.."}}[1m])), 0.001) or vector(0)',
    "mesh: workloads": f"label_join(sum(rate(istio_requests_total{{{HTTP}}}[1m])) {BY_WORKLOAD}, "
    '"destination_workload_var", ".", "destination_workload", "destination_workload_namespace")',
    "mesh: p99": f"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{{{HTTP}}}[1m])) "
    "by (le, destination_workload, destination_workload_namespace))",
    "mesh: TCP workloads": f"sum(rate(istio_tcp_received_bytes_total{{{HTTP}}}[1m])) {BY_WORKLOAD}",
    "mesh: components": "sum(istio_build) by (component, tag)",
    "service: by source": "round(sum(irate(istio_requests_total"
    f'{{connection_security_policy="mutual_tls", {TO_TRIED}, source_workload=~"ingress"}}[5m])) '
    "by (source_workload, source_workload_namespace, response_code), 0.001)",
    "service: request size": "histogram_quantile(0.95, "
    f"sum(irate(istio_request_bytes_bucket{{{TO_TRIED}}}[5m])) by (source_workload, le))",
    "service: response size": "histogram_quantile(0.95, "
    f"sum(irate(istio_response_bytes_bucket{{{TO_TRIED}}}[5m])) by (source_workload, le))",
    "ztunnel: versions": 'sum(istio_build{component="ztunnel"}) by (tag)',
    "ztunnel: opened": 'sum(rate(istio_tcp_connections_opened_total{pod=~"ztunnel-.*"}[1m])) by (pod)',
    "ztunnel: closed": '-sum(rate(istio_tcp_connections_closed_total{pod=~"ztunnel-.*"}[1m])) by (pod)',
    "ztunnel: sent": 'sum(rate(istio_tcp_sent_bytes_total{pod=~"ztunnel-.*"}[1m])) by (pod)',
    "ztunnel: workloads": 'sum(workload_manager_active_proxy_count{pod=~"ztunnel-.*"}) by (pod)',
    "ztunnel: received": 'sum(rate(istio_tcp_received_bytes_total{pod=~"ztunnel-.*"}[1m])) by (pod)',
}


def test_istios_dashboard_of_the_mesh_shows_the_rates_of_the_load(judge: Prometheus) -> None:
    (_, requests), *_ = judge.query(OF_ISTIO["mesh: requests"])
    (_, success), *_ = judge.query(OF_ISTIO["mesh: success rate"])
    by_workload = {
        labels["destination_workload_var"]: value for labels, value in judge.query(OF_ISTIO["mesh: workloads"])
    }

    assert requests * WINDOW_SECONDS == pytest.approx(len(EDGES) * PAGES, rel=0.1)
    assert success == 1
    assert by_workload.keys() == {f"{workload}.default" for _, _, workload in EDGES}


# -- our boards and alerts ---------------------------------------------------------------------------------------------

AT_REST = {
    "programs: Failures of background loops: 0",
    "programs: Age of the configuration: 0",
    "programs: Pods: 1",
    "waypoints: Failures of background loops: 0",
    "waypoints: Age of the configuration: 0",
}
"""What is 0 in a mesh that works and follows files."""
OF_DISCOVERY = "discovery"
"""In titles of panels about discovery by xDS, which the laptop mesh does not have."""


def test_no_alert_fires_in_a_mesh_that_works(judge: Prometheus) -> None:
    assert judge.firing() == set()


def shows(judge: Prometheus, name: str, query: str) -> bool:
    """Whether there is data, and something happens in it."""
    values = [value for _, value in judge.query(query)]
    return bool(values) and (name in AT_REST or any(value != 0 and not math.isnan(value) for value in values))


@contextmanager
def load(mesh: LaptopMesh) -> Iterator[None]:
    """Clients of every service, and a stranger who speaks no TLS to the waypoint and to a pod."""
    is_over = threading.Event()

    def ask(service: str) -> None:
        while not is_over.is_set():
            get(service)
            get(service, GRPC)
            is_over.wait(0.1)

    def knock(address: str) -> None:
        while not is_over.is_set():
            with socket.create_connection((address, 15008), timeout=5) as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                stranger.recv(1024)
            is_over.wait(0.05)

    overlay = yaml.safe_load_all((mesh.folder / "run" / "overlay" / "mesh.yaml").read_text())
    pods = {it["metadata"]["name"]: it["status"]["podIP"] for it in overlay if it["kind"] == "Pod"}
    waypoint = target(mesh, "waypoint default/waypoint").partition(":")[0]
    threads = [threading.Thread(target=ask, args=(it,)) for it in (*SERVICES, "tried", "tried", "tried")]
    threads += [threading.Thread(target=knock, args=(it,)) for it in (waypoint, pods["details-v1-0"])]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_every_panel_shows_what_is_provoked(judge: Prometheus, manifests: Path, mesh: LaptopMesh) -> None:
    (manifests / "broken.yaml").write_text("kind: [")
    (manifests / "problem.yaml").write_text(PROBLEM)
    ours = queries_of("mesh") | queries_of("waypoints") | queries_of("programs")
    empty = OF_ISTIO | {name: query for name, query in ours.items() if OF_DISCOVERY not in name}

    def remaining() -> set[str]:
        for name in [it for it, query in empty.items() if shows(judge, it, query)]:
            del empty[name]
        return set(empty)

    with load(mesh):
        becomes(set(), remaining, seconds=90)


PROBLEM = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: productpage-v1}
spec:
  parentRefs: [{group: "", kind: Service, name: productpage-v1, port: 9080}]
  rules: [{backendRefs: [{name: nobody, port: 9080}]}]
"""


def test_the_alerts_about_what_was_provoked_fired(judge: Prometheus) -> None:
    fired = judge.query('max by (alertname) (max_over_time(ALERTS{alertstate="firing"}[2m]))')

    assert {labels["alertname"] for labels, _ in fired} - {"PywaypointRefuses"} == {  # refusals may have been too few
        "PywaypointConfigDoubts",
        "PywaypointConfigProblems",
        "PywaypointEndpointsEjected",
        "PywaypointServiceErrors",
    }


def test_alerts_rest_when_the_configuration_is_corrected(judge: Prometheus, manifests: Path) -> None:
    for name in ("broken.yaml", "problem.yaml"):
        (manifests / name).unlink()

    becomes(set(), lambda: judge.firing() & {"PywaypointConfigDoubts", "PywaypointConfigProblems"}, seconds=20)


def test_programs_that_are_gone_are_down(judge: Prometheus, mesh: LaptopMesh) -> None:
    mesh.stop()

    becomes(True, lambda: "PywaypointDown" in judge.firing(), seconds=20)
