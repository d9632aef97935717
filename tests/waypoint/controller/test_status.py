import json
from typing import Any

import msgspec

from waypoint.controller.gateways import Gateway, class_decoder, gateway_decoder
from waypoint.controller.status import Outcome, of_class, of_gateway

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
MESH = {"name": "mesh", "port": 15008, "protocol": "HBONE"}
WEB = {"name": "web", "port": 80, "protocol": "HTTP"}
SERVICE = {"spec": {"clusterIPs": ["10.96.0.7", "fd00::7"]}}
STARTING = Outcome(service=SERVICE, deployment={"status": {"replicas": 2}})
READY = Outcome(service=SERVICE, deployment={"status": {"replicas": 2, "readyReplicas": 1}})


def gateway(*listeners: object, status: object = None, **spec: Any) -> Gateway:
    metadata = {"name": "front", "namespace": "shop", "uid": "u1", "generation": 3}
    spec = {"gatewayClassName": "pywaypoint", "listeners": listeners or [MESH], **spec}
    return gateway_decoder.decode(json.dumps({"metadata": metadata, "spec": spec, "status": status or {}}))


def told(given: Gateway, outcome: Outcome, now: str = NOW) -> dict[str, Any]:
    found = of_gateway(given, outcome, "cluster.local", now)
    assert found is not None
    return found


def condition(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    (found,) = (it for it in status["conditions"] if it["type"] == kind)
    return found["status"], found["reason"], found["message"]


def test_a_gateway_is_programmed_and_has_addresses_once_a_replica_is_ready() -> None:
    starting, ready = told(gateway(), STARTING), told(gateway(), READY)

    assert condition(starting, "Programmed") == ("False", "Pending", "None of the waypoint's 2 replicas is ready.")
    assert starting["addresses"] == []
    assert condition(ready, "Programmed")[0] == "True"
    assert ready["addresses"] == [
        {"type": "Hostname", "value": "front.shop.svc.cluster.local"},
        {"type": "IPAddress", "value": "10.96.0.7"},
        {"type": "IPAddress", "value": "fd00::7"},
    ]


def test_addresses_stay_when_no_replica_is_ready_any_more() -> None:
    """Without an address, traffic would go around the waypoint and its policies."""
    ready = told(gateway(), READY)

    after = told(gateway(status=ready), STARTING)

    assert condition(after, "Programmed")[0] == "False"
    assert after["addresses"] == ready["addresses"]


def test_nothing_is_told_twice_and_others_conditions_do_not_count() -> None:
    known = told(gateway(), READY)
    theirs = {"type": "Theirs", "status": "True", "reason": "R", "message": "", "lastTransitionTime": NOW}

    assert of_gateway(gateway(status=known), READY, "cluster.local", LATER) is None
    known = {**known, "conditions": [theirs, *known["conditions"]]}
    assert of_gateway(gateway(status=known), READY, "cluster.local", LATER) is None


def test_the_time_of_a_condition_changes_with_its_status_alone() -> None:
    first = told(gateway(), STARTING)
    failed = Outcome(failures=["no"], service=SERVICE)
    second = told(gateway(status=first), failed, LATER)
    third = told(gateway(status=second), READY, LATER)

    def since(status: dict[str, Any]) -> str:
        return str(next(it for it in status["conditions"] if it["type"] == "Programmed")["lastTransitionTime"])

    assert condition(second, "Programmed") == ("False", "Invalid", "no")
    assert (since(first), since(second), since(third)) == (NOW, NOW, LATER)


def test_a_wrong_listener_is_told_and_the_others_count() -> None:
    sentence = "listener web has protocol HTTP and port 80; a waypoint listens with protocol HBONE on port 15008"

    some, none = told(gateway(MESH, WEB), READY), told(gateway(WEB), READY)

    assert condition(some, "Accepted") == ("True", "ListenersNotValid", sentence)
    assert condition(none, "Accepted") == ("False", "ListenersNotValid", sentence)
    assert condition(some["listeners"][0], "Accepted")[0] == "True"
    assert condition(some["listeners"][1], "Accepted") == ("False", "UnsupportedProtocol", sentence)
    port = told(gateway({**MESH, "port": 80}), READY)["listeners"][0]
    assert condition(port, "Accepted")[:2] == ("False", "PortUnavailable")


def test_wrong_parameters_are_told_and_a_ready_waypoint_stays_programmed() -> None:
    found = told(gateway(), Outcome(["a", "b"], (), READY.service, READY.deployment))

    assert condition(found, "Accepted") == ("False", "InvalidParameters", "a; b")
    assert condition(found, "Programmed")[0] == "True"


def test_a_deployment_that_cannot_make_pods_says_why() -> None:
    conditions = [
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"},
        {"type": "Progressing", "status": "True", "message": "fine"},
    ]
    found = told(gateway(), Outcome(service=SERVICE, deployment={"status": {"conditions": conditions}}))

    assert condition(found, "Programmed")[2] == "The waypoint has no replicas yet: exceeded quota"


def test_given_addresses_are_told_as_they_are() -> None:
    found = told(gateway(addresses=[{"value": "10.0.0.1"}]), Outcome())

    assert condition(found, "Programmed")[0] == "True"
    assert found["addresses"] == [{"type": "IPAddress", "value": "10.0.0.1"}]


def test_a_class_is_accepted_once() -> None:
    known = class_decoder.decode(b'{"metadata": {"name": "c", "generation": 1}, "spec": {"controllerName": "x"}}')

    found = of_class(known, NOW)

    assert found is not None
    assert condition(found, "Accepted")[0] == "True"
    assert of_class(msgspec.structs.replace(known, status=msgspec.convert(found, type(known.status))), LATER) is None
