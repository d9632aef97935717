import pytest

from tests.kit.kinds import load, told
from waypoint.config.gateway_api.l4_routes import TCPRoute, TLSRoute

RULES = "rules: [{backendRefs: [{name: mongo, port: 27017}]}]"


def test_a_rule_has_weighted_backends() -> None:
    refs = "{name: a, port: 1, weight: 9}, {name: b, port: 1}"

    rule = load(TCPRoute, f"{{rules: [{{name: split, backendRefs: [{refs}]}}]}}").spec.rules[0]

    assert [ref.weight for ref in rule.backend_refs] == [9, 1]


@pytest.mark.parametrize(
    ("spec", "field", "sentence"),
    [
        ("", "spec", "missing required field `rules`"),
        ("rules: []", "spec.rules", "length >= 1"),
        ("rules: [{backendRefs: [{name: a, port: 1}]}, {backendRefs: [{name: a, port: 1}]}]", "spec.rules", "<= 1"),
        ("rules: [{}]", "spec.rules[0]", "missing required field `backendRefs`"),
        ("rules: [{backendRefs: []}]", "spec.rules[0].backendRefs", "length >= 1"),
        ("rules: [{backendRefs: [{name: a}]}]", "spec.rules[0].backendRefs[0]", "Service a needs a port"),
        (f"parentRefs: [{{name: a}}, {{name: a}}], {RULES}", "spec", "Gateway a is repeated"),
        ("rules: [{name: A, backendRefs: [{name: a, port: 1}]}]", "spec.rules[0].name", "'A' is not a name"),
    ],
)
@pytest.mark.parametrize("kind", [TCPRoute, TLSRoute])
def test_a_route_of_connections_has_one_rule_with_backends(
    kind: type[TCPRoute | TLSRoute], spec: str, field: str, sentence: str
) -> None:
    place, told_sentence = told(kind, f"{{{'hostnames: [a.example], ' if kind is TLSRoute else ''}{spec}}}")

    assert place == field
    assert sentence in told_sentence


@pytest.mark.parametrize(
    ("hostnames", "field", "sentence"),
    [
        ("", "spec", "missing required field `hostnames`"),
        ("hostnames: [], ", "spec.hostnames", "length >= 1"),
        ("hostnames: [10.0.0.1], ", "spec", "10.0.0.1 is an address"),
        ("hostnames: ['fd00::1'], ", "spec.hostnames[0]", "is not a host such as"),
        ("hostnames: [a.*.example], ", "spec.hostnames[0]", "is not a host such as"),
        ("hostnames: [Mongo.example], ", "spec.hostnames[0]", "in lower case"),
    ],
)
def test_server_names_are_names_and_no_addresses(hostnames: str, field: str, sentence: str) -> None:
    place, told_sentence = told(TLSRoute, f"{{{hostnames}{RULES}}}")

    assert place == field
    assert sentence in told_sentence


def test_server_names_may_begin_with_a_star() -> None:
    spec = load(TLSRoute, f"{{hostnames: ['*.mongo.example', mongo.example], {RULES}}}").spec

    assert spec.hostnames == ("*.mongo.example", "mongo.example")
