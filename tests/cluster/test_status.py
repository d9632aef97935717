"""The statuses of routes, policies and Services that the controller writes, against a real API server."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.controllers import Process, apply, may, service_account
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import until

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


def bound(name: str) -> dict[str, Any]:
    return condition(get("service", name).get("status") or {}, "istio.io/WaypointBound")


def security_crds() -> list[dict[str, Any]]:
    """As Istio's: the conditions are one field, which one manager owns."""
    made = []
    for kind in ("AuthorizationPolicy", "RequestAuthentication"):
        plural = f"{kind.lower().removesuffix('y')}{'ies' if kind.endswith('y') else 's'}"
        names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
        whatever = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        items = {"type": "array", "items": whatever}
        status = {"type": "object", "properties": {"conditions": items}}
        schema = {"type": "object", "properties": {"spec": whatever, "status": status}}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        made.append(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.security.istio.io"},
                "spec": {
                    "group": "security.istio.io",
                    "names": names,
                    "scope": "Namespaced",
                    "versions": [{**version, "subresources": {"status": {}}}],
                },
            }
        )
    return made


@pytest.fixture(scope="module")
def security() -> Iterator[None]:
    """Istio's kinds, unless somebody has installed them."""
    known = kubectl("get", "crds", "-o", "name")
    missing = [it for it in security_crds() if it["metadata"]["name"] not in known]
    for it in missing:
        kubectl("create", "-f", "-", given=it)
        kubectl("wait", "--for=condition=Established", f"crd/{it['metadata']['name']}", "--timeout=60s")
    yield
    for it in missing:
        kubectl("delete", "crd", it["metadata"]["name"], "--timeout=60s")


def write_status(kind: str, name: str, status: object) -> None:
    patch = json.dumps({"status": status})
    kubectl("patch", kind, name, "-n", NAME, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture(scope="module")
def process(security: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    kubectl("delete", "namespace", NAME, "--ignore-not-found", "--timeout=100s")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
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


def policy(kind: str, name: str, group: str, refs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"apiVersion": group, "kind": kind, "metadata": metadata(name), "spec": {"targetRefs": refs, **more}}


def test_our_policies_are_told_for_each_of_our_targets(process: Process) -> None:
    targets = [parent("reviews"), parent("alone"), parent("absent"), parent("waypoint", "Gateway")]
    limit = {"limit": {"requests": 5, "unit": "Second"}}
    fault = {"abort": {"httpStatus": 503, "percentage": 1}}

    apply(
        policy("RateLimitPolicy", "limits", "pywaypoint.dev/v1alpha1", targets, rules=[limit]),
        policy("FaultPolicy", "faults", "pywaypoint.dev/v1alpha1", targets[:1], rules=[fault]),
        policy("XBackendTrafficPolicy", "budget", "gateway.networking.x-k8s.io/v1alpha1", targets[:1]),
    )

    found = until(lambda: (it := entries("ratelimitpolicy", "limits", "ancestors")) and len(it) == 3 and it)
    accepted = {it["ancestorRef"]["name"]: conditions(it)["Accepted"] for it in found}
    assert accepted == {
        "reviews": ("True", "Accepted"),
        "waypoint": ("True", "Accepted"),
        "absent": ("False", "TargetNotFound"),
    }
    for kind, name in (("faultpolicy", "faults"), ("xbackendtrafficpolicy", "budget")):
        (only,) = until(lambda kind=kind, name=name: entries(kind, name, "ancestors"))  # type: ignore[misc]
        assert conditions(only) == {"Accepted": ("True", "Accepted")}


def test_istios_policies_have_one_condition_for_all_targets(process: Process) -> None:
    group = "security.istio.io/v1"
    rule = {"issuer": "https://example.com", "jwksUri": "http://example.com/keys", "misspelt": 1}

    apply(
        policy("AuthorizationPolicy", "good", group, [parent("reviews")], rules=[{}]),
        policy("AuthorizationPolicy", "unbound", group, [parent("alone")], rules=[{}]),
        policy("AuthorizationPolicy", "lost", group, [parent("absent")], rules=[{}]),
        policy("RequestAuthentication", "tokens", group, [parent("reviews")], jwtRules=[rule]),
    )

    def told(kind: str, name: str) -> tuple[str, str] | None:
        it = condition(get(kind, name).get("status") or {}, "WaypointAccepted")
        return (it["status"], it["reason"]) if it else None

    assert until(lambda: told("authorizationpolicy", "good")) == ("True", "Accepted")
    assert until(lambda: told("authorizationpolicy", "unbound")) == ("False", "AncestorNotBound")
    assert until(lambda: told("authorizationpolicy", "lost")) == ("False", "TargetNotFound")
    assert until(lambda: told("requestauthentication", "tokens")) == ("False", "Invalid")


def test_a_service_is_told_whether_it_is_bound(process: Process) -> None:
    pending = gateway("pending")
    del pending["spec"]["addresses"]
    workloads = gateway("workloads", labels={"istio.io/waypoint-for": "workload"})
    foreign = gateway("foreign", "somebody-elses")
    apply(pending, workloads, foreign)
    apply(*(service(f"of-{it}", it) for it in ("waypoint", "pending", "workloads", "foreign", "missing")))

    assert until(lambda: bound("of-waypoint"))["message"] == f"Successfully attached to waypoint {NAME}/waypoint"
    assert until(lambda: bound("of-pending"))["reason"] == "WaypointIsNotReady"
    assert until(lambda: bound("of-workloads"))["reason"] == "UnsupportedTrafficType"
    assert bound("of-foreign") == bound("of-missing") == bound("alone") == {}

    kubectl("label", "service", "of-waypoint", "-n", NAME, "istio.io/use-waypoint-")
    until(lambda: not bound("of-waypoint"))


def test_a_namespaces_label_binds_its_services(process: Process) -> None:
    apply(service("inherits"))
    kubectl("label", "namespace", NAME, "istio.io/use-waypoint=waypoint")

    assert until(lambda: bound("inherits"))["status"] == "True"

    kubectl("label", "namespace", NAME, "istio.io/use-waypoint-")
    until(lambda: not bound("inherits"))


def test_what_somebody_takes_away_comes_back(process: Process) -> None:
    apply(service("wiped", "waypoint"), route("wiped", parent("wiped"), backend={"name": "wiped", "port": 80}))
    until(lambda: entries("httproute", "wiped") and bound("wiped"))

    write_status("service", "wiped", {"conditions": []})
    write_status("httproute", "wiped", {"parents": []})

    until(lambda: bound("wiped"))
    until(lambda: entries("httproute", "wiped"))


def test_a_condition_that_another_manager_owns_stays_his(process: Process) -> None:
    """istiod writes this condition for all waypoints, whoever runs them."""
    apply(service("istiods"))
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata("istiods"),
        "status": {
            "conditions": [
                {
                    "type": "istio.io/WaypointBound",
                    "status": "True",
                    "reason": "WaypointAccepted",
                    "message": "by istiod",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ]
        },
    }
    flags = ("--server-side", "--subresource=status", "--field-manager=istiod")
    kubectl("apply", *flags, "-f", "-", given=theirs)

    kubectl("label", "service", "istiods", "-n", NAME, "istio.io/use-waypoint=waypoint")
    apply(service("after", "waypoint"))
    until(lambda: bound("after"))
    until(lambda: f"the conditions of Service {NAME}/istiods are left" in process.log.read_text())

    assert bound("istiods")["message"] == "by istiod"


def test_two_controllers_of_different_names_leave_each_other_alone(process: Process, tmp_path: Path) -> None:
    other = f"{NAME}-other"
    gateway_class = {"apiVersion": f"{GATEWAY_API}/v1", "kind": "GatewayClass", "metadata": {"name": other}}
    apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}},
        {**gateway_class, "spec": {"controllerName": f"pywaypoint.dev/{other}"}},
    )
    apply(gateway("others", other), service("ours", "waypoint"), route("both", parent("ours"), parent("theirs")))
    until(lambda: bound("ours") and entries("httproute", "both"))
    before = get("service", "ours")["metadata"]["resourceVersion"]
    second = Process(other, "other", tmp_path / "other.log", service_account(other, tmp_path))
    try:
        for name in ("theirs", "later"):  # before the later one, all that the first conclusion asks for is written
            apply(service(name, "others"))
            until(lambda name=name: bound(name))  # type: ignore[misc]
        until(lambda: entries("httproute", "both", controller=f"pywaypoint.dev/{other}"))

        assert len(entries("httproute", "both")) == 1
        assert get("service", "ours")["metadata"]["resourceVersion"] == before
    finally:
        second.end()
        kubectl("delete", "namespace", other, "--wait=false")
        kubectl("delete", "gatewayclass", other)
        kubectl("delete", "clusterrolebinding", other, f"{other}-controller", "--ignore-not-found")
        kubectl("delete", "clusterrole", f"{other}-controller")


def test_a_verb_that_is_forbidden_is_told_and_the_rest_goes_on(process: Process, tmp_path: Path) -> None:
    process.end()
    rules = [
        {**it, "resources": [name for name in it["resources"] if name != "grpcroutes/status"]}
        for it in may(NAME)
        if "requestauthentications" not in it["resources"]
    ]
    limited = Process(NAME, "limited", tmp_path / "limited.log", service_account(NAME, tmp_path, rules))
    try:
        until(limited.leads)
        apply(route("denied", parent("reviews"), kind="GRPCRoute"), route("allowed", parent("reviews")))
        apply(policy("RequestAuthentication", "unread", "security.istio.io/v1", [parent("reviews")]))

        until(lambda: entries("httproute", "allowed"))
        until(lambda: "needs the verb patch for grpcroutes/status" in limited.log.read_text())
        assert not entries("grpcroute", "denied")
        assert 'cannot watch resource "requestauthentications"' in limited.log.read_text()
        assert not get("requestauthentication", "unread").get("status")

        service_account(NAME, tmp_path)
        until(lambda: entries("grpcroute", "denied"))
    finally:
        limited.end()
        sys.stdout.write(limited.log.read_text())
