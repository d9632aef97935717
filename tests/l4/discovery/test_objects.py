import msgspec
import pytest

from l4.config import manifest
from l4.config.documents import Problem
from l4.config.resources import Decoder
from l4.discovery.kubernetes import KINDS
from l4.discovery.objects import LabelSelector, RouteNamespaces, canonical_ip


def problems_of(text: str) -> tuple[Problem, ...]:
    documents, _ = manifest.parse("f.yaml", text.encode())
    return Decoder(KINDS).decode(documents).problems


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("2001:DB8:0::1", "2001:db8::1")],
)
def test_an_address_is_written_in_one_way(text: str, canonical: str) -> None:
    assert canonical_ip(text) == canonical


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        ("{kind: Pod, status: {podIP: 10.0.0.300}}", "status", "'10.0.0.300' is not an IP address"),
        ("{kind: Pod, status: {podIPs: [{ip: x}]}}", "status.podIPs[0]", "'x' is not an IP address"),
        ("{kind: Service, spec: {clusterIP: x}}", "spec", "'x' is not an IP address"),
        ("{kind: Service, spec: {ports: [{port: 0}]}}", "spec.ports[0].port", "expected `int` >= 1"),
        ("{kind: Service, spec: {ports: [{port: '80'}]}}", "spec.ports[0].port", "expected `int`, got `str`"),
        (
            "{kind: Gateway, apiVersion: gateway.networking.k8s.io/v1, spec: {gatewayClassName: w},"
            " status: {addresses: [{value: w.example.com}]}}",
            "status.addresses[0]",
            "'w.example.com' is not an IP address",
        ),
        (
            "{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, endpoints: [{addresses: [x]}]}",
            "endpoints[0]",
            "'x' is not an IP address",
        ),
    ],
)
def test_what_could_not_be_used_is_a_problem_of_its_object(text: str, field: str, sentence: str) -> None:
    document = f"{{metadata: {{name: a}}, {text[1:]}"
    if "apiVersion" not in text:
        document = f"{{apiVersion: v1, {document[1:]}"

    problems = problems_of(document)

    assert [(problem.field, problem.sentence) for problem in problems] == [(field, sentence)]


@pytest.mark.parametrize(
    ("selector", "is_selected"),
    [
        ({}, True),
        ({"matchLabels": {"team": "books"}}, True),
        ({"matchLabels": {"team": "films"}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["books", "films"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": []}]}, False),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["books"]}]}, False),
        ({"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["books"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"team": "books"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
    ],
)
def test_a_selector_selects_what_meets_all_of_it(selector: dict[str, object], is_selected: bool) -> None:
    assert msgspec.convert(selector, LabelSelector).selects({"team": "books"}) is is_selected


@pytest.mark.parametrize(
    ("rule", "is_allowed"),
    [
        ({}, False),
        ({"from": "Same"}, False),
        ({"from": "None"}, False),
        ({"from": "All"}, True),
        ({"from": "Selector"}, False),
        ({"from": "Selector", "selector": {}}, True),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "films"}}}, False),
    ],
)
def test_other_namespaces_attach_only_where_a_listener_says_so(rule: dict[str, object], is_allowed: bool) -> None:
    assert msgspec.convert(rule, RouteNamespaces).allow({"team": "books"}) is is_allowed
