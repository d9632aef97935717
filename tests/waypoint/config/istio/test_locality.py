"""Where the waypoint finds itself."""

from tests.kit.discovery import registry_in
from waypoint.config.istio.locality import NOWHERE, place_of

GATEWAY = ("default", "waypoint")


def pod(name: str, ip: str, labels: str) -> str:
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{labels}}}}}
status: {{podIP: {ip}}}
"""


def waypoint(number: int, locality: str, version: str = "v1") -> str:
    labels = f"gateway.networking.k8s.io/gateway-name: waypoint, istio-locality: {locality}, version: {version}"
    return pod(f"waypoint-{number}", f"10.0.0.{number}", labels)


def test_it_is_where_the_pod_with_its_address_is() -> None:
    registry = registry_in(waypoint(1, "us.east.a") + waypoint(2, "eu.west.a"))

    assert place_of(registry, GATEWAY, "10.0.0.2").locality == ("eu", "west", "a")


def test_without_an_address_it_is_where_all_pods_of_its_gateway_are() -> None:
    registry = registry_in(waypoint(1, "us.east.a") + waypoint(2, "us.east.b", "v2"))

    place = place_of(registry, GATEWAY, None)

    assert place.locality == ("us", "east", "")
    assert place.labels["topology.kubernetes.io/zone"] == "east"
    assert "topology.istio.io/subzone" not in place.labels
    assert "version" not in place.labels


def test_pods_of_others_say_nothing() -> None:
    assert place_of(registry_in(pod("app", "10.0.0.9", "istio-locality: us.east.a")), GATEWAY, None) == NOWHERE
