"""Our ztunnels and waypoints under Istio's control plane: istiod signs, and tells both what is in the mesh."""

import base64
import json
import re
from collections.abc import Iterator

import pytest
from cryptography import x509

from tests.cluster import istio, mesh, sandwich
from tests.cluster.bookinfo import NAMESPACE, Browser, PageTests, pods, running
from tests.cluster.istioctl import istioctl, rows
from tests.cluster.kubectl import forwarded, kubectl
from tests.cluster.machine import NODES
from tests.cluster.test_prometheus import KIALI
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(600)]

ASKS_RATINGS = """
import urllib.request
print(urllib.request.urlopen("http://ratings:9080/ratings/0", timeout=5).read().decode())
"""
GATEWAY = "gateway.networking.k8s.io/gateway-name"


@pytest.fixture(scope="module")
def bookinfo() -> Iterator[None]:
    values = [f"--set={it}" for it in istio.BESIDE]
    with mesh.put_back(), istio.installed(), running(lambda: mesh.install(mesh.CHART, *values)):
        yield


@pytest.fixture(scope="module")
def port(bookinfo: None) -> Iterator[int]:
    with forwarded(NAMESPACE, "productpage", 9080) as it:
        yield it


class TestPage(PageTests):
    """By istiod."""


def names(selector: str, namespace: str = NAMESPACE) -> list[str]:
    """Of pods that are ready."""
    found = json.loads(kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    ready = {"type": "Ready", "status": "True"}
    return [
        it["metadata"]["name"]
        for it in found
        if any(ready.items() <= each.items() for each in it["status"].get("conditions", []))
    ]


def series(name: str, namespace: str, pod: str) -> list[dict[str, str]]:
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}:15020/proxy/stats/prometheus")
    return [dict(re.findall(r'(\w+)="([^"]*)"', it)) for it in text.splitlines() if it.startswith(f"{name}{{")]


@pytest.mark.usefixtures("bookinfo")
def test_istiod_says_that_every_pod_is_in_the_mesh() -> None:
    found = rows(istioctl("ztunnel-config", "workloads", "--workload-namespace", NAMESPACE))

    applications = {it["POD NAME"]: it["PROTOCOL"] for it in found if not it["POD NAME"].startswith("waypoint-")}
    assert applications == {it["metadata"]["name"]: "HBONE" for it in pods()}


@pytest.mark.usefixtures("bookinfo")
def test_every_certificate_is_signed_by_istiod() -> None:
    secret = json.loads(kubectl("get", "secret", "istio-ca-secret", "-n", istio.NAMESPACE, "-o", "json"))
    root = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["ca-cert.pem"]))
    controller = json.loads(kubectl("get", "deployment", "pywaypoint-controller", "-n", mesh.NAMESPACE, "-o", "json"))
    (its,) = controller["spec"]["template"]["spec"]["containers"]

    asked = [("ztunnel-config", "certificates", f"--node={it.name}") for it in NODES]
    asked += [("proxy-config", "secret", f"{it}.{NAMESPACE}") for it in names(f"{GATEWAY}=waypoint")]
    for question in asked:
        found = rows(istioctl(*question))
        roots = {int(it["SERIAL NUMBER"], 16) for it in found if it["TYPE"] in ("Root", "CA")}
        assert roots == {root.serial_number}
        assert {it["VALID CERT"] for it in found} == {"true"}
    assert not [it for it in its["args"] if it.startswith(("--sign", "--serve-discovery"))]


@pytest.mark.usefixtures("bookinfo")
def test_proxy_status_and_version_name_every_ztunnel_and_waypoint() -> None:
    def follows() -> dict[str, str]:
        its = {f"{it}.{mesh.NAMESPACE}": "2 (WADS,WDS)" for it in names("app=ztunnel", mesh.NAMESPACE)}
        return its | {f"{it}.{NAMESPACE}": "1 (WDS)" for it in names(f"{GATEWAY}=waypoint")}

    def told() -> list[dict[str, str]]:
        return rows(istioctl("proxy-status", namespace=istio.NAMESPACE))

    def counts() -> list[str]:
        """Of each of our versions. Connections of istioctl itself count for a moment, too, as 65536.65536.65536."""
        return re.findall(r"pywaypoint-\S+ \((\d+) proxies\)", istioctl("version", namespace=istio.NAMESPACE))

    # A pod is connected before it is ready, and while it drains.
    until(lambda: {it["NAME"]: it["SUBSCRIBED TYPES"] for it in told()} == follows())
    assert all(it["VERSION"].startswith("pywaypoint-") for it in told())
    until(lambda: counts() == [str(len(follows()))])


@pytest.mark.usefixtures("bookinfo")
def test_what_other_tools_of_istio_say() -> None:
    assert rows(istioctl("waypoint", "list", "-A", namespace=istio.NAMESPACE)) == []  # they are of another class
    found = json.loads(istioctl("analyze", f"--namespace={NAMESPACE}", "--output=json", namespace=istio.NAMESPACE))
    assert [it for it in found if it["level"] != "Info"] == []
    told = istioctl("experimental", "describe", "service", "reviews", "-n", NAMESPACE, namespace=istio.NAMESPACE)
    assert 'Service "reviews" has no Istio pods.' in told  # it asks for sidecars


def test_kialis_edges_of_ztunnels_have_every_name_and_are_locked(port: int) -> None:
    def sent() -> list[dict[str, str]]:
        return [
            it
            for pod in names("app=ztunnel", mesh.NAMESPACE)
            for it in series("istio_tcp_sent_bytes_total", mesh.NAMESPACE, pod)
            if it["source_workload_namespace"] == it["destination_workload_namespace"] == NAMESPACE
        ]

    def edges() -> set[tuple[str, str]]:
        return {(it["source_workload"], it["destination_workload"]) for it in sent()}

    Browser(port).get("/productpage")

    until(lambda: {("productpage-v1", "waypoint"), ("waypoint", "details-v1")} <= edges())
    found = sent()
    assert {it["connection_security_policy"] for it in found} == {"mutual_tls"}
    assert [name for it in found for name in KIALI.split(", ") if it.get(name, "") in ("", "unknown")] == []


@pytest.mark.usefixtures("bookinfo")
@pytest.mark.parametrize("name", [sandwich.FOREIGN, sandwich.OURS])
def test_a_ztunnel_ends_the_tunnels_in_a_waypoints_pod(name: str) -> None:
    """istiod tells it, and the ztunnels of clients, from an annotation of the Gateway."""
    sandwich.apply_to(NAMESPACE, name)
    kubectl("label", "service", "ratings", "-n", NAMESPACE, f"istio.io/use-waypoint={name}", "--overwrite")

    def waypoints() -> set[str]:
        """Of ratings, as each node's ztunnel knows it."""
        services = ("ztunnel-config", "services", "--service-namespace", NAMESPACE)
        found = [it for node in NODES for it in rows(istioctl(*services, f"--node={node.name}"))]
        return {it["WAYPOINT"] for it in found if it["SERVICE NAME"] == "ratings"}

    until(lambda: waypoints() == {name})

    answer = kubectl("exec", "-n", NAMESPACE, "deployment/reviews-v2", "--", "python3", "-c", ASKS_RATINGS)

    labels = ("source_principal", "destination_workload", "response_code", "connection_security_policy")
    (pod,) = names(f"{GATEWAY}={name}")

    def calls() -> set[tuple[str, ...]]:
        return {tuple(it[label] for label in labels) for it in series("istio_requests_total", NAMESPACE, pod)}

    reviews, waypoint = (f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{it}" for it in ("bookinfo-reviews", name))
    assert json.loads(answer)["id"] == 0
    assert until(calls) == {(reviews, "ratings-v1", "200", "mutual_tls")}
    assert (waypoint, "ratings-v1", "mutual_tls") in {
        (it["source_principal"], it["destination_workload"], it["connection_security_policy"])
        for it in opened()
        if it["reporter"] == "destination"
    }


def opened() -> Iterator[dict[str, str]]:
    """The connections that ztunnels have carried."""
    for pod in names("app=ztunnel", mesh.NAMESPACE):
        yield from series("istio_tcp_connections_opened_total", mesh.NAMESPACE, pod)
