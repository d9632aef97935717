"""The Gateways that documents name: which of them count as having an address, and what to say of a wrong name."""

from typing import Any

import pytest

from l4.config.documents import Document, FileOrigin, ObjectKey
from l4.config.resources import Decoder
from l4.config.settings import Settings
from waypoint.config.gateways import why_no_gateway, with_address
from waypoint.config.kinds import KINDS

OWN = ("default", "waypoint")


def gateway(name: str = "waypoint", **more: Any) -> Document:
    content = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": []},
        **more,
    }
    return Document(ObjectKey("gateway.networking.k8s.io", "Gateway", "default", name), content, FileOrigin("a.yaml"))


NO_ADDRESS: dict[str, Any] = {"status": {"conditions": []}}
ADDRESS: dict[str, Any] = {"status": {"addresses": [{"type": "IPAddress", "value": "10.0.0.9"}]}}


@pytest.mark.parametrize(
    ("document", "served", "hostname"),
    [
        (gateway(), None, "waypoint.default.svc.cluster.local"),
        (gateway(**NO_ADDRESS), OWN, "waypoint.default.svc.cluster.local"),
        (gateway(**NO_ADDRESS), None, None),
        (gateway("other", **NO_ADDRESS), OWN, None),
        (gateway("other"), OWN, "other.default.svc.cluster.local"),
        (gateway(**ADDRESS), OWN, None),
        (gateway(status="up"), OWN, None),
    ],
)
def test_a_gateway_gets_the_address_of_its_service_where_its_status_does_not_say_otherwise(
    document: Document, served: tuple[str, str] | None, hostname: str | None
) -> None:
    amended = with_address(document, Settings(), served)

    if hostname is None:
        assert amended is document
    else:
        assert amended.content["status"]["addresses"] == [{"type": "Hostname", "value": hostname}]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "there is no Gateway default/waypoint, and no other Gateway either"),
        (["waypiont"], "there is no Gateway default/waypoint; did you mean default/waypiont?"),
        (["ingress", "x"], "there is no Gateway default/waypoint; there are default/ingress, default/x"),
        ([f"x{number}" for number in range(7)], "there is no Gateway default/waypoint; there are "),
    ],
)
def test_a_wrong_name_is_answered_with_those_that_there_are(names: list[str], sentence: str) -> None:
    resources = Decoder(KINDS).decode([gateway(name) for name in names]).resources

    said = why_no_gateway(resources, OWN)

    assert said.startswith(sentence)
    assert ("and 2 more" in said) is (len(names) == 7)
