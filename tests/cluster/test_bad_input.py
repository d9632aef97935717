"""Wrong objects, missing rights and a server that is away: each is told by name, and the rest goes on.

An API server of the test's own, with real RBAC: nothing of it concerns anybody else in the cluster.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.bare import BareServer, bare_server
from tests.cluster.controllers import may
from tests.cluster.mesh import CHART, helm
from tests.cluster.programs import Door, Program, commands, led_through, running
from tests.cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

NAME = "bad-input"
PROGRAMS = ("controller", "waypoint", "ztunnel", "agent")
READ = {"controller": "configmaps", "waypoint": "httproutes", "ztunnel": "services", "agent": "namespaces"}
"""Of what each program reads, something that can be taken away from it."""


def gateway(name: str, **more: Any) -> dict[str, Any]:
    listeners = [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": NAME},
        "spec": {"gatewayClassName": NAME, "listeners": listeners, **more},
    }


def parameters(kind: str, name: str, group: str = "") -> dict[str, Any]:
    return {"parametersRef": {"group": group, "kind": kind, "name": name}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareServer]:
    """With the Gateway API, a class, a Gateway and a node of this name."""
    with bare_server(tmp_path_factory.mktemp("server")) as server:
        server.install_gateway_api()
        group = {"apiVersion": "gateway.networking.k8s.io/v1"}
        spec = {"controllerName": f"pywaypoint.dev/{NAME}"}
        server.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}},
            {**group, "kind": "GatewayClass", "metadata": {"name": NAME}, "spec": spec},
            gateway(NAME),
        )
        yield server


@pytest.fixture
def door(server: BareServer) -> Iterator[Door]:
    door = Door(server.url)
    yield door
    door.end()


def rights(program: str) -> list[dict[str, Any]]:
    """Those that the chart gives."""
    if program == "controller":
        return may(NAME)
    objects = yaml.safe_load_all(helm("template", "pywaypoint", str(CHART)))
    roles = {it["metadata"]["name"]: it["rules"] for it in objects if it and it["kind"] == "ClusterRole"}
    return list(roles[f"pywaypoint-{program}"])


def without(rules: list[dict[str, Any]], resource: str, *verbs: str) -> list[dict[str, Any]]:
    """The rules less these verbs for a resource, or less all."""
    left = []
    for it in rules:
        rest = [name for name in it["resources"] if name != resource]
        kept = [verb for verb in it["verbs"] if verbs and verb not in verbs]
        left += [{**it, "resources": rest}] if rest else []
        left += [{**it, "resources": [resource], "verbs": kept}] if resource in it["resources"] and kept else []
    return left


def set_rules(server: BareServer, name: str, rules: list[dict[str, Any]]) -> None:
    change = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    server.kubectl("patch", "clusterrole", name, "--type=json", "-p", change)


def condition(server: BareServer, name: str, kind: str) -> dict[str, Any]:
    found = json.loads(server.kubectl("get", "gateway", name, "-n", NAME, "-o", "json"))
    conditions = found.get("status", {}).get("conditions", [])
    return next((it for it in conditions if it["type"] == kind), {})


def there(server: BareServer, kind: str, name: str) -> str:
    return server.kubectl("get", kind, name, "-n", NAME, "-o", "name", "--ignore-not-found")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_server_that_cannot_be_reached_is_named_and_waited_for(
    server: BareServer, door: Door, program: str, tmp_path: Path
) -> None:
    kubeconfig = led_through(server.account(f"away-{program}", rights(program)), door.port)
    with running(commands(NAME, tmp_path)[program], tmp_path / "log", kubeconfig) as process:
        until(lambda: f"the API server https://127.0.0.1:{door.port} gave no usable answer" in process.log, 15)
        assert "Connect call failed" in process.log
        assert process.readiness()[0] == 503

        door.open()

        process.becomes_ready()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_right_that_is_taken_away_is_told_until_it_is_back(
    server: BareServer, door: Door, program: str, tmp_path: Path
) -> None:
    account, resource = f"robbed-{program}", READ[program]
    kubeconfig = led_through(server.account(account, rights(program)), door.port)
    door.open()
    with running(commands(NAME, tmp_path)[program], tmp_path / "log", kubeconfig) as process:
        process.becomes_ready()
        until(lambda: process.readiness()[1] == "ready\n")

        set_rules(server, account, without(rights(program), resource))
        door.cut()  # a watch that stands outlives the right

        until(lambda: f'cannot watch resource "{resource}"' in process.readiness()[1])
        status, text = process.readiness()
        assert status == 200
        assert [line for line in text.splitlines()[1:] if resource not in line.lower()] == []
        assert f'cannot watch resource "{resource}"' in process.log

        set_rules(server, account, rights(program))

        until(lambda: process.readiness() == (200, "ready\n"))


@pytest.fixture(scope="module")
def controller(server: BareServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("controller")
    kubeconfig = server.account("controller", may(NAME))
    with running(commands(NAME, folder)["controller"], folder / "log", kubeconfig) as process:
        process.becomes_ready()
        yield process


def test_what_may_not_be_made_is_a_condition_and_the_other_objects_are_made(
    server: BareServer, controller: Program
) -> None:
    set_rules(server, "controller", without(may(NAME), "deployments", "create"))
    server.apply(gateway("poor"))

    found = until(lambda: (it := condition(server, "poor", "Programmed")).get("reason") == "Invalid" and it)

    assert 'Deployment: deployments.apps "poor" is forbidden' in found["message"]
    assert 'cannot create resource "deployments"' in controller.log
    for kind in ("service", "serviceaccount", "horizontalpodautoscaler", "poddisruptionbudget"):
        assert there(server, kind, "poor")
    set_rules(server, "controller", may(NAME))
    until(lambda: there(server, "deployment", "poor"))
    until(lambda: condition(server, "poor", "Programmed").get("reason") != "Invalid")


@pytest.mark.parametrize(
    ("infrastructure", "sentence"),
    [
        (parameters("ConfigMap", "nowhere"), f"there is no ConfigMap {NAME}/nowhere"),
        (parameters("Secret", "overlay"), "names a Secret overlay of the group core; it must name a ConfigMap"),
        (parameters("Sizes", "large", "example.com"), "names a Sizes large of the group example.com"),
    ],
)
@pytest.mark.usefixtures("controller")
def test_parameters_that_are_unknown_are_a_condition_and_the_waypoint_is_made(
    server: BareServer, infrastructure: dict[str, Any], sentence: str
) -> None:
    name = f"lost-{infrastructure['parametersRef']['kind'].lower()}"
    server.apply(gateway(name, infrastructure=infrastructure))

    found = until(lambda: (it := condition(server, name, "Accepted")).get("status") == "False" and it)

    assert found["reason"] == "InvalidParameters"
    assert sentence in found["message"]
    until(lambda: there(server, "deployment", name))


@pytest.mark.usefixtures("controller")
def test_of_two_listeners_the_wrong_one_is_named_and_the_other_serves(server: BareServer) -> None:
    listeners = [
        {"name": "mesh", "port": 15008, "protocol": "HBONE"},
        {"name": "odd", "port": 15009, "protocol": "HBONE"},
    ]
    server.apply(gateway("half", listeners=listeners))

    found = until(lambda: condition(server, "half", "Accepted"))

    assert (found["status"], found["reason"]) == ("True", "ListenersNotValid")
    assert "listener odd has protocol HBONE and port 15009" in found["message"]
    until(lambda: there(server, "deployment", "half"))
