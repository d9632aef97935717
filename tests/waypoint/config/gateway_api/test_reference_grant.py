import pytest

from tests.kit.kinds import load, told
from waypoint.config.gateway_api.reference_grant import ReferenceGrant

FROM = "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]"
TO = "to: [{group: '', kind: Service}]"
ROUTE = ("gateway.networking.k8s.io", "HTTPRoute", "shop")
SERVICE = ("", "Service", "reviews")


@pytest.mark.parametrize(
    ("source", "target", "is_permitted"),
    [
        (ROUTE, SERVICE, True),
        (("gateway.networking.k8s.io", "GRPCRoute", "shop"), SERVICE, False),
        (("gateway.networking.k8s.io", "HTTPRoute", "default"), SERVICE, False),
        (("example.com", "HTTPRoute", "shop"), SERVICE, False),
        (ROUTE, ("", "Secret", "reviews"), False),
        (ROUTE, ("example.com", "Service", "reviews"), False),
    ],
)
def test_a_grant_is_for_kinds_and_namespaces_it_names(
    source: tuple[str, str, str], target: tuple[str, str, str], is_permitted: bool
) -> None:
    grant = load(ReferenceGrant, f"{{{FROM}, {TO}}}")

    assert grant.permits(*source, *target) is is_permitted


def test_a_grant_with_names_is_for_these_objects_only() -> None:
    to = "to: [{group: '', kind: Service, name: ratings}, {group: '', kind: Service, name: reviews}]"
    grant = load(ReferenceGrant, f"{{{FROM}, {to}}}")

    assert grant.permits(*ROUTE, *SERVICE)
    assert not grant.permits(*ROUTE, "", "Service", "details")


@pytest.mark.parametrize(
    ("spec", "field", "sentence"),
    [
        (TO, "spec", "missing required field `from`"),
        (FROM, "spec", "missing required field `to`"),
        (f"from: [], {TO}", "spec.from", "length >= 1"),
        (f"{FROM}, to: []", "spec.to", "length >= 1"),
        (f"from: [{{group: '', kind: A}}], {TO}", "spec.from[0]", "missing required field `namespace`"),
        (f"from: [{{kind: A, namespace: a}}], {TO}", "spec.from[0]", "missing required field `group`"),
        (f"from: [{{group: '', kind: A, namespace: '*'}}], {TO}", "spec.from[0].namespace", "'*' is not a namespace"),
        (f"{FROM}, to: [{{group: ''}}]", "spec.to[0]", "missing required field `kind`"),
        (f"{FROM}, to: [{{group: '', kind: Service, name: ''}}]", "spec.to[0].name", "length >= 1"),
    ],
)
def test_a_grant_that_does_not_say_all_grants_nothing(spec: str, field: str, sentence: str) -> None:
    place, told_sentence = told(ReferenceGrant, f"{{{spec}}}")

    assert place == field
    assert sentence in told_sentence
