"""The controller against a real API server: what it makes of Gateways, and what becomes of it.

The controllers run on this machine, from this checkout, for a class of the test's own, so that one that is installed in
the cluster is not in the way.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from tests.cluster.controllers import IMAGE, Process, apply, service_account
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

T = TypeVar("T")

NAMESPACE = "controller-test"
CLASS = "controller-test"
CONTROLLER = "pywaypoint.dev/controller-test"
ROLE = "controller-test"
STAND_IN = {
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "waypoint",
                        "command": ["python3"],
                        "args": ["-m", "http.server", "15021", "--directory", "/opt"],
                        "readinessProbe": {"httpGet": {"path": "/"}},
                        "resources": {"requests": {"cpu": "10m"}},
                    }
                ]
            }
        }
    }
}
"""In place of the waypoint, so that what is tested is the controller alone."""


def get(kind: str, name: str) -> Any:
    """The object, or None."""
    text = kubectl("get", kind, name, "-n", NAMESPACE, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text else None


def condition(name: str, kind: str) -> dict[str, Any]:
    conditions = (get("gateway", name) or {}).get("status", {}).get("conditions", [])
    found: dict[str, Any] = next((it for it in conditions if it["type"] == kind), {})
    return found


def gateway(name: str, **more: Any) -> dict[str, Any]:
    listeners = [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": more.pop("labels", {})},
        "spec": {"gatewayClassName": CLASS, "listeners": listeners, **more},
    }


def overlaid(name: str, config_map: str, **more: Any) -> dict[str, Any]:
    return gateway(
        name, infrastructure={"parametersRef": {"group": "", "kind": "ConfigMap", "name": config_map}}, **more
    )


def overlay(name: str, **parts: object) -> dict[str, Any]:
    data = {key: part if isinstance(part, str) else yaml.safe_dump(part) for key, part in parts.items()}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": data,
    }


@pytest.fixture(scope="module")
def namespace() -> Iterator[None]:
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER},
        },
    )
    apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio-ca-root-cert", "namespace": NAMESPACE},
            "data": {"root-cert.pem": "none"},
        },
        overlay("stand-in", deployment=STAND_IN, horizontalPodAutoscaler={"spec": {"minReplicas": 1}}),
    )
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    kubectl("delete", "gatewayclass", CLASS)
    kubectl("delete", "clusterrolebinding", ROLE, f"{ROLE}-controller", "--ignore-not-found")
    kubectl("delete", "clusterrole", f"{ROLE}-controller", "--ignore-not-found")


@pytest.fixture(scope="module")
def controller(namespace: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("controller")
    process = Process(NAMESPACE, "first", folder / "first.log", service_account(NAMESPACE, folder))
    until(process.leads)
    yield process
    process.end()
    sys.stdout.write(process.log.read_text())


def test_a_gateway_is_programmed_once_a_replica_is_ready(controller: Process) -> None:
    apply(overlaid("whole", "stand-in"))

    seen = until(lambda: (it := condition("whole", "Programmed")).get("status") in ("True", "False") and it)
    until(lambda: condition("whole", "Programmed").get("status") == "True")

    assert seen["status"] == "False"
    assert get("deployment", "whole")["status"]["readyReplicas"] >= 1
    assert get("deployment", "whole")["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    found = get("gateway", "whole")
    ip = get("service", "whole")["spec"]["clusterIP"]
    assert found["status"]["addresses"] == [
        {"type": "Hostname", "value": f"whole.{NAMESPACE}.svc.cluster.local"},
        {"type": "IPAddress", "value": ip},
    ]
    (listener,) = found["status"]["listeners"]
    assert {it["type"]: it["status"] for it in listener["conditions"]} == {
        "Accepted": "True",
        "Conflicted": "False",
        "Programmed": "True",
        "ResolvedRefs": "True",
    }
    classes = json.loads(kubectl("get", "gatewayclass", CLASS, "-o", "json"))
    assert [it["status"] for it in classes["status"]["conditions"] if it["type"] == "Accepted"] == ["True"]
    subjects = json.loads(kubectl("get", "clusterrolebinding", ROLE, "-o", "json"))["subjects"]
    assert {"kind": "ServiceAccount", "name": "whole", "namespace": NAMESPACE} in subjects
    for kind in ("serviceaccount", "horizontalpodautoscaler", "poddisruptionbudget"):
        assert get(kind, "whole")["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]


def test_an_edited_object_is_put_right_and_a_deleted_one_comes_back(controller: Process) -> None:
    apply(gateway("edited"))
    until(lambda: get("poddisruptionbudget", "edited") and get("deployment", "edited"))

    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "else:1"}]
    kubectl("patch", "deployment", "edited", "-n", NAMESPACE, "--type=json", "-p", json.dumps(image))
    kubectl("label", "service", "edited", "-n", NAMESPACE, "gateway.istio.io/managed-")
    before = get("poddisruptionbudget", "edited")["metadata"]["uid"]
    kubectl("delete", "poddisruptionbudget", "edited", "-n", NAMESPACE)

    def image_now() -> str:
        its: str = get("deployment", "edited")["spec"]["template"]["spec"]["containers"][0]["image"]
        return its

    until(lambda: image_now() == IMAGE)
    until(lambda: "gateway.istio.io/managed" in get("service", "edited")["metadata"]["labels"])
    until(lambda: (it := get("poddisruptionbudget", "edited")) and it["metadata"]["uid"] != before)


def test_nothing_is_written_while_nothing_changes(controller: Process) -> None:
    apply(overlaid("quiet", "stand-in"))
    until(lambda: condition("quiet", "Programmed").get("status") == "True")

    def versions() -> dict[str, str]:
        kinds = ("gateway", "deployment", "service", "serviceaccount", "poddisruptionbudget")
        return {kind: get(kind, "quiet")["metadata"]["resourceVersion"] for kind in kinds}

    def is_quiet() -> bool:
        before = versions()
        time.sleep(6)
        return versions() == before

    until(is_quiet)


def test_an_overlay_comes_before_ours_and_goes_when_it_is_taken_back(controller: Process) -> None:
    pod = {"priorityClassName": "system-cluster-critical", "containers": [{"name": "waypoint", "image": "mine:1"}]}
    more = {"spec": {"template": {"spec": pod}, "minReadySeconds": 1}}
    apply(
        overlay("mine", deployment=more, service={"metadata": {"annotations": {"team": "a"}}}), overlaid("over", "mine")
    )
    until(lambda: (it := get("deployment", "over")) and it["spec"]["minReadySeconds"] == 1)
    assert get("deployment", "over")["spec"]["template"]["spec"]["priorityClassName"] == "system-cluster-critical"
    until(lambda: (it := get("service", "over")) and it["metadata"]["annotations"].get("team") == "a")

    apply(overlay("mine", deployment={"spec": {"revisionHistoryLimit": 3}}))

    until(lambda: get("deployment", "over")["spec"]["revisionHistoryLimit"] == 3)
    until(lambda: get("deployment", "over")["spec"]["minReadySeconds"] == 5)
    until(lambda: "priorityClassName" not in get("deployment", "over")["spec"]["template"]["spec"])
    assert get("deployment", "over")["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert condition("over", "Accepted")["status"] == "True"
    until(lambda: "team" not in get("service", "over")["metadata"]["annotations"])


def test_an_invalid_overlay_is_a_condition_and_the_rest_goes_on(controller: Process) -> None:
    parts = {"spec": {"minReadySeconds": -7}}
    apply(overlay("wrong", deployment=parts, service="]", podDisruptionBudget={"spec": {"maxAvailable": 1}}))
    apply(overlaid("misled", "wrong"))

    found = until(lambda: (it := condition("misled", "Accepted")).get("status") == "False" and it)

    assert found["reason"] == "InvalidParameters"
    assert "key service: it is no YAML" in found["message"]
    assert "spec.minReadySeconds" in found["message"]
    assert "maxAvailable" in found["message"]
    assert get("deployment", "misled")["spec"]["minReadySeconds"] == 5
    assert until(lambda: get("service", "misled"))["spec"]["clusterIP"]


def test_fields_that_somebody_else_applies_are_left_to_him(controller: Process) -> None:
    apply(gateway("shared"))
    until(lambda: get("deployment", "shared"))
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shared", "namespace": NAMESPACE},
        "spec": {"minReadySeconds": 9},
    }
    flags = ("--server-side", "--force-conflicts", "--field-manager=somebody")
    kubectl("apply", *flags, "-f", "-", given=theirs)

    infrastructure = {"labels": {"team": "b"}}
    apply(gateway("shared", infrastructure=infrastructure))

    until(lambda: get("deployment", "shared")["metadata"]["labels"].get("team") == "b")
    assert get("deployment", "shared")["spec"]["minReadySeconds"] == 9


def test_a_wrong_listener_is_a_condition(controller: Process) -> None:
    apply(gateway("deaf", listeners=[{"name": "web", "port": 80, "protocol": "HTTP"}]))

    found = until(lambda: (it := condition("deaf", "Accepted")).get("status") == "False" and it)

    assert found["reason"] == "ListenersNotValid"
    assert "listener web has protocol HTTP and port 80" in found["message"]


def test_what_is_not_ours_is_left_alone(controller: Process) -> None:
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken", "namespace": NAMESPACE}}
    apply({**foreign, "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}})
    address = [{"type": "IPAddress", "value": "10.1.2.3"}]
    apply(gateway("taken"), gateway("given", addresses=address), gateway("other", labels={"istio.io/rev": "other"}))

    found = until(lambda: (it := condition("taken", "Programmed")).get("reason") == "Invalid" and it)
    until(lambda: condition("given", "Programmed").get("status") == "True")

    assert f"Service {NAMESPACE}/taken exists and is not this Gateway's" in found["message"]
    assert get("service", "taken")["spec"]["selector"] == {"app": "x"}
    assert get("deployment", "given") is None
    assert get("gateway", "given")["status"]["addresses"] == address
    assert get("deployment", "other") is None
    assert condition("other", "Accepted")["status"] == "Unknown"


def test_the_objects_go_with_the_gateway(controller: Process) -> None:
    apply(gateway("leaving"))
    kinds = ("deployment", "service", "serviceaccount", "horizontalpodautoscaler", "poddisruptionbudget")
    until(lambda: all(get(kind, "leaving") for kind in kinds))

    kubectl("delete", "gateway", "leaving", "-n", NAMESPACE)

    until(lambda: not any(get(kind, "leaving") for kind in kinds))

    def subjects() -> list[str]:
        binding = json.loads(kubectl("get", "clusterrolebinding", ROLE, "-o", "json"))
        return [it["name"] for it in binding.get("subjects", [])]

    until(lambda: "leaving" not in subjects())


def test_one_of_two_leads_and_the_other_takes_over(controller: Process, tmp_path: Path) -> None:
    second = Process(NAMESPACE, "second", tmp_path / "second.log", service_account(NAMESPACE, tmp_path))
    try:
        time.sleep(5)
        assert not second.leads()
        controller.end(signal.SIGKILL)
        until(second.leads)
        apply(gateway("heir"))
        until(lambda: get("deployment", "heir"))
        held = get("lease", "pywaypoint-controller")["spec"]["holderIdentity"]
        assert held == "second"
    finally:
        second.end()
