"""The real istioctl against the mesh: the tables that its users know, of our ztunnels and waypoints.

istioctl makes and shows waypoints of the class `istio-waypoint` only. Here this class is our controller's.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import mesh, tools
from tests.cluster.applications import HOLDS_CONNECTIONS, metadata, objects
from tests.cluster.controllers import apply
from tests.cluster.istioctl import istioctl, rows
from tests.cluster.istiod import crds
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.istio, pytest.mark.timeout(600)]

NAMESPACE = "istioctl-test"
CLASS = "istio-waypoint"
CRD = "authorizationpolicies.security.istio.io"
NODE = "node-a"
GATEWAY_CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": CLASS},
    "spec": {"controllerName": "pywaypoint.dev/mesh-controller"},
}
POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": metadata("let-in", NAMESPACE),
    "spec": {
        "selector": {"matchLabels": {"app": "app"}},
        "rules": [{"from": [{"source": {"namespaces": [NAMESPACE]}}]}],
    },
}


@pytest.fixture(scope="module", autouse=True)
def applications() -> Iterator[None]:
    """A client that holds a connection to the Service `app`, through a waypoint, and one to `direct`."""
    tools.install("istio")
    mesh.install()
    is_missing = CRD not in kubectl("get", "crd", "-o", "name")
    if is_missing:
        apply(*crds(CRD))
        kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=60s")
    labels = {"istio.io/dataplane-mode": "ambient"}
    try:
        apply(
            GATEWAY_CLASS,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
            POLICY,
        )
        istioctl("waypoint", "apply", f"--namespace={NAMESPACE}", "--for=service", "--wait")
        apply(*objects(NAMESPACE, HOLDS_CONNECTIONS, NODE))
        kubectl("wait", "-n", NAMESPACE, "--for=condition=Available", "deployments", "--all", "--timeout=120s")
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
        kubectl("delete", "gatewayclass", CLASS, "--ignore-not-found")
        if is_missing:
            kubectl("delete", "crd", CRD)


def pod(app: str) -> Any:
    (found,) = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-l", f"app={app}", "-o", "json"))["items"]
    return found


def workload(name: str) -> dict[str, str]:
    found = rows(istioctl("ztunnel-config", "workloads", "--workload-namespace", NAMESPACE))
    return next((it for it in found if it["POD NAME"].startswith(name)), {})


def test_workloads() -> None:
    its = pod("app")

    row = {
        "NAMESPACE": NAMESPACE,
        "POD NAME": its["metadata"]["name"],
        "ADDRESS": its["status"]["podIP"],
        "NODE": NODE,
        "WAYPOINT": "None",
        "PROTOCOL": "HBONE",
    }
    until(lambda: workload("app") == row)
    assert workload("waypoint")


def test_services() -> None:
    def shown() -> dict[str, tuple[str, str]]:
        found = rows(istioctl("ztunnel-config", "services", "--service-namespace", NAMESPACE))
        return {it["SERVICE NAME"]: (it["WAYPOINT"], it["ENDPOINTS"]) for it in found}

    wanted = {"app": ("waypoint", "1/1"), "direct": ("None", "1/1")}
    until(lambda: wanted.items() <= shown().items())
    assert shown().keys() == {"app", "direct", "waypoint"}


def test_policies() -> None:
    row = {"NAMESPACE": NAMESPACE, "POLICY NAME": "let-in", "ACTION": "Allow", "SCOPE": "WorkloadSelector"}
    until(lambda: row in rows(istioctl("ztunnel-config", "policies")))

    (policy,) = json.loads(istioctl("ztunnel-config", "policies", f"--policy-namespace={NAMESPACE}", "-o", "json"))

    assert policy["rules"] == [[[{"namespaces": [{"Exact": NAMESPACE}]}]]]


def test_certificates() -> None:
    identity = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/app"

    found = until(
        lambda: [
            it
            for it in rows(istioctl("ztunnel-config", "certificates", f"--node={NODE}"))
            if it["CERTIFICATE NAME"] == identity
        ]
    )

    leaf, *roots = ((it["TYPE"], it["STATUS"], it["VALID CERT"]) for it in found)
    assert leaf == ("Leaf", "Available", "true")
    assert set(roots) == {("Root", "Available", "true")}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[0]["NOT AFTER"])


def test_connections_of_a_pod() -> None:
    def ways() -> set[tuple[str, ...]]:
        found = rows(istioctl("ztunnel-config", "connections", f"--node={NODE}"))
        seen = (it for it in found if it["WORKLOAD"].endswith(f".{NAMESPACE}"))
        return {
            (it["WORKLOAD"].partition("-")[0], it["DIRECTION"], it["REMOTE TARGET"].partition(".")[0], it["PROTOCOL"])
            for it in seen
        }

    until(
        lambda: (
            {
                ("client", "Outbound", "app", "HBONE"),
                ("client", "Outbound", "direct", "HBONE"),
                ("app", "Inbound", "app", "HBONE"),
                ("app", "Inbound", "direct", "HBONE"),
            }
            <= ways()
        )
    )
    name = f"{pod('client')['metadata']['name']}.{NAMESPACE}"
    assert {it["WORKLOAD"] for it in rows(istioctl("ztunnel-config", "connections", name))} == {name}


def test_all_of_a_ztunnel() -> None:
    text = istioctl("ztunnel-config", "all", "--with-headers")

    for it in ("WORKLOAD", "SERVICE", "POLICY", "SECRET", "CONNECTIONS"):
        assert f"------ {it} INFO ------" in text


def test_the_log_level_is_shown_and_changed() -> None:
    assert "log level is info" in istioctl("ztunnel-config", "log")
    try:
        assert "log level is now debug" in istioctl("ztunnel-config", "log", "--level=debug")
    finally:
        assert "log level is now info" in istioctl("ztunnel-config", "log", "--reset")


def test_waypoints_of_its_class_are_made_listed_and_told_of() -> None:
    row = {"NAME": "waypoint", "REVISION": "default", "TRAFFIC TYPE": "service", "PROGRAMMED": "True"}

    assert rows(istioctl("waypoint", "list", f"--namespace={NAMESPACE}")) == [row]
    (told,) = rows(istioctl("waypoint", "status", f"--namespace={NAMESPACE}"))
    assert (told["NAME"], told["STATUS"]) == ("waypoint", "True")


def test_it_finds_nothing_to_criticize() -> None:
    found = json.loads(istioctl("analyze", f"--namespace={NAMESPACE}", "--output=json"))

    assert [it for it in found if it["level"] != "Info"] == []


def waypoint_pod() -> str:
    pods = ("get", "pods", "-n", NAMESPACE, "-l", "gateway.networking.k8s.io/gateway-name=waypoint", "-o", "name")
    return f"{kubectl(*pods).split()[0].removeprefix('pod/')}.{NAMESPACE}"


def test_what_a_waypoint_has_in_common_with_an_envoy_is_shown() -> None:
    its = pod("app")
    name = f"inbound-vip|80|http|app.{NAMESPACE}.svc.cluster.local"

    clusters = rows(istioctl("proxy-config", "clusters", waypoint_pod()))
    endpoints = rows(istioctl("proxy-config", "endpoints", waypoint_pod()))
    secrets = rows(istioctl("proxy-config", "secret", waypoint_pod()))

    assert (f"app.{NAMESPACE}.svc.cluster.local", "80", "http", "inbound-vip", "EDS") in {
        tuple(it.values())[:-1] for it in clusters
    }
    assert {
        "ENDPOINT": f"{its['status']['podIP']}:8080",
        "STATUS": "HEALTHY",
        "OUTLIER CHECK": "OK",
        "CLUSTER": name,
    } in endpoints
    assert {(it["RESOURCE NAME"], it["STATUS"], it["VALID CERT"]) for it in secrets} == {
        ("default", "ACTIVE", "true"),
        ("ROOTCA", "ACTIVE", "true"),
    }
    assert "log level is info" in istioctl("proxy-config", "log", waypoint_pod())


@pytest.mark.parametrize("kind", ["listeners", "routes"])
def test_what_only_an_envoy_has_is_named_as_missing(kind: str) -> None:
    with pytest.raises(SystemExit, match=f"config dump has no configuration type .*{kind.capitalize()}ConfigDump"):
        istioctl("proxy-config", kind, waypoint_pod())
