import json
from typing import Any

from waypoint.controller.gateways import Gateway, gateway_decoder


def gateway(labels: dict[str, str] | None = None, **spec: Any) -> Gateway:
    metadata = {"name": "front", "namespace": "shop", "uid": "u1", "generation": 3, "labels": labels}
    content = {"metadata": metadata, "spec": {"gatewayClassName": "pywaypoint", **spec}}
    return gateway_decoder.decode(json.dumps(content))


def test_a_gateway_with_addresses_is_not_managed() -> None:
    assert gateway().is_managed
    assert not gateway(addresses=[{"value": "10.0.0.1"}]).is_managed


def test_the_label_of_a_revision_leaves_a_gateway_to_another_controller() -> None:
    assert gateway().is_of("default")
    assert gateway({"istio.io/rev": "default"}).is_of("default")
    assert not gateway({"istio.io/rev": "canary"}).is_of("default")


def test_a_waypoint_has_the_labels_of_the_infrastructure() -> None:
    found = gateway(infrastructure={"labels": {"team": "a"}, "annotations": {"b": "c"}}).waypoint()

    assert (found.namespace, found.name, found.uid, found.class_name) == ("shop", "front", "u1", "pywaypoint")
    assert (found.labels, found.annotations) == ({"team": "a"}, {"b": "c"})
