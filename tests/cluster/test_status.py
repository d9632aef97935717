"""The statuses of routes, policies and Services that the controller writes, against a real API server."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.controllers import Process, apply, service_account, until
from tests.cluster.kubectl import kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "status-test"
CONTROLLER = f"pywaypoint.dev/{NAME}"
BACKEND = {"name": "reviews", "port": 80}
GATEWAY_API = "gateway.networking.k8s.io"
CRDS = Path(__file__).parents[2] / "deploy" / "crds"


def metadata(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAME, **more}


def service(name: str, waypoint: str = "") -> dict[str, Any]:
    labels = {"istio.io/use-waypoint": waypoint} if waypoint else {}
    port = {"name": "http", "port": 80, "appProtocol": "http"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, labels=labels),
        "spec": {"ports": [port], "selector": {"app": name}},
    }


def gateway(name: str, gateway_class: str = NAME, **more: Any) -> dict[str, Any]:
    """One whose waypoint is run by somebody else: it has an address at once, and needs no pod."""
    listeners = [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "Gateway",
        "metadata": metadata(name, **more),
        "spec": {
            "gatewayClassName": gateway_class,
            "listeners": listeners,
            "addresses": [{"type": "IPAddress", "value": "10.1.2.3"}],
        },
    }


def parent(name: str, kind: str = "Service") -> dict[str, Any]:
    return {"group": "" if kind == "Service" else GATEWAY_API, "kind": kind, "name": name}


def route(name: str, *parents: object, backend: object = BACKEND, kind: str = "HTTPRoute") -> dict[str, Any]:
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": kind,
        "metadata": metadata(name),
        "spec": {"parentRefs": list(parents), "rules": [{"backendRefs": [backend]}]},
    }


def get(kind: str, name: str) -> Any:
    return json.loads(kubectl("get", kind, name, "-n", NAME, "-o", "json"))


def entries(kind: str, name: str, field: str = "parents", controller: str = CONTROLLER) -> list[dict[str, Any]]:
    found = (get(kind, name).get("status") or {}).get(field) or []
    return [it for it in found if it["controllerName"] == controller]


def conditions(entry: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {it["type"]: (it["status"], it["reason"]) for it in entry["conditions"]}


def condition(of: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next((it for it in of.get("conditions") or [] if it["type"] == kind), {})
    return found


def write_status(kind: str, name: str, status: object) -> None:
    patch = json.dumps({"status": status})
    kubectl("patch", kind, name, "-n", NAME, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    kubectl("delete", "namespace", NAME, "--ignore-not-found", "--timeout=100s")
    kubectl("apply", "-f", str(CRDS))
    gateway_class = {"apiVersion": f"{GATEWAY_API}/v1", "kind": "GatewayClass", "metadata": {"name": NAME}}
    apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}},
        {**gateway_class, "spec": {"controllerName": CONTROLLER}},
    )
    apply(gateway("waypoint"), service("reviews", "waypoint"), service("details", "waypoint"), service("alone"))
    folder = tmp_path_factory.mktemp("controller")
    process = Process(NAME, "first", folder / "first.log", service_account(NAME, folder))
    until(process.leads)
    yield process
    process.end()
    sys.stdout.write(process.log.read_text())
    kubectl("delete", "namespace", NAME, "--wait=false")
    kubectl("delete", "gatewayclass", NAME)
    kubectl("delete", "clusterrolebinding", NAME, f"{NAME}-controller", "--ignore-not-found")
    kubectl("delete", "clusterrole", f"{NAME}-controller", "--ignore-not-found")


def test_a_route_is_told_for_each_of_our_parents(process: Process) -> None:
    its = [parent("reviews"), parent("details"), parent("alone"), parent("waypoint", "Gateway")]

    apply(route("several", *its), route("grpc", parent("reviews"), kind="GRPCRoute"))

    found = until(lambda: (it := entries("httproute", "several")) and len(it) == 3 and it)
    by_name = {(it["parentRef"]["kind"], it["parentRef"]["name"]): conditions(it) for it in found}
    well = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    assert by_name["Service", "reviews"] == by_name["Service", "details"] == well
    assert by_name["Gateway", "waypoint"]["Accepted"] == ("False", "NotAllowedByListeners")
    assert {condition(it, "Accepted")["observedGeneration"] for it in found} == {1}
    assert [conditions(it) for it in until(lambda: entries("grpcroute", "grpc"))] == [well]


def test_what_is_wrong_is_told_in_the_compilers_words_until_it_is_mended(process: Process) -> None:
    apply(route("lost", parent("reviews"), backend={"name": "nowhere", "port": 80}))

    (lost,) = until(lambda: entries("httproute", "lost"))
    since = condition(lost, "Accepted")["lastTransitionTime"]
    time.sleep(1.1)  # a time has whole seconds
    apply(service("nowhere"))
    resolved = until(
        lambda: condition(it := entries("httproute", "lost")[0], "ResolvedRefs")["status"] == "True" and it
    )

    assert conditions(lost)["ResolvedRefs"] == ("False", "BackendNotFound")
    assert "spec.rules[0].backendRefs[0]" in condition(lost, "ResolvedRefs")["message"]
    assert condition(resolved, "Accepted")["lastTransitionTime"] == since
    assert condition(resolved, "ResolvedRefs")["lastTransitionTime"] > since


def test_entries_of_others_stay_and_ours_goes_with_its_parent(process: Process) -> None:
    apply(route("shared", parent("reviews"), parent("alone")))
    until(lambda: entries("httproute", "shared"))
    accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
    theirs = {
        "parentRef": parent("alone"),
        "controllerName": "example.com/other",
        "conditions": [{**accepted, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }
    write_status("httproute", "shared", {"parents": [theirs]})

    until(lambda: entries("httproute", "shared"))
    apply(route("shared", parent("alone")))
    until(lambda: not entries("httproute", "shared"))

    assert entries("httproute", "shared", controller="example.com/other") == [theirs]


def test_no_status_is_written_while_nothing_changes(process: Process) -> None:
    apply(route("quiet", parent("reviews")))
    until(lambda: entries("httproute", "quiet"))
    apply(service("noise", "waypoint"))
    until(lambda: condition(get("service", "noise").get("status") or {}, "istio.io/WaypointBound"))

    def versions() -> list[str]:
        its = [("httproute", "quiet"), ("service", "reviews"), ("service", "noise")]
        return [get(*it)["metadata"]["resourceVersion"] for it in its]

    before = versions()
    time.sleep(4)
    assert versions() == before
