import pytest

from tests.kit.kinds import load, told
from waypoint.config.gateway_api.grpc_route import GRPCRoute


def rule(fields: str) -> str:
    return f"{{rules: [{{{fields}}}]}}"


def items(text: str, count: int) -> str:
    return ", ".join(text.replace("#", str(number)) for number in range(count))


def test_a_rule_without_matches_takes_every_request() -> None:
    given = load(GRPCRoute, rule("backendRefs: [{name: reviews, port: 9080}]")).spec.rules[0]

    assert given.matches == ()
    assert load(GRPCRoute, "{}").spec.rules == ()


@pytest.mark.parametrize(
    "method",
    [
        "service: bookinfo.v1.Reviews, method: GetReview",
        "service: .Reviews",
        "method: _Get2",
        "type: RegularExpression, service: 'bookinfo\\..*'",
        "type: RegularExpression, service: '', method: 'Get.+'",
    ],
)
def test_a_method_is_matched_by_service_or_name(method: str) -> None:
    assert load(GRPCRoute, rule(f"matches: [{{method: {{{method}}}}}]"))


@pytest.mark.parametrize(
    ("match", "field", "sentence"),
    [
        ("method: {}", ".method", "is empty: add service or method"),
        ("method: {type: Exact}", ".method", "is empty: add service"),
        ("method: {service: ''}", ".method", "is empty: add service"),
        ("method: {type: Prefix, service: a}", ".method.type", "is not one of Exact, RegularExpression"),
        ("method: {service: a/b}", ".method", "service: 'a/b' is not a gRPC service such as bookinfo.v1.Reviews"),
        ("method: {service: a..b}", ".method", "is not a gRPC service"),
        ("method: {service: 2a}", ".method", "is not a gRPC service"),
        ("method: {service: '', method: Get}", ".method", "service: '' is not a gRPC service"),
        ("method: {method: a.b}", ".method", "method: 'a.b' is not a gRPC method such as GetReview"),
        ("method: {method: /Get}", ".method", "is not a gRPC method"),
        ("method: {type: RegularExpression, service: (}", ".method", "is not a valid RE2 expression"),
        ("method: {type: RegularExpression, method: (}", ".method", "is not a valid RE2 expression"),
        (f"method: {{method: {'a' * 1025}}}", ".method.method", "length <= 1024"),
        ("headers: [{name: a b, value: x}]", ".headers[0].name", "is not a header name"),
        ("headers: [{name: a, value: x}, {name: a, value: y}]", "", "a is repeated"),
        (f"headers: [{items('{name: h#, value: x}', 17)}]", ".headers", "length <= 16"),
    ],
)
def test_a_match_asks_what_the_api_lets_it_ask(match: str, field: str, sentence: str) -> None:
    place, told_sentence = told(GRPCRoute, rule(f"matches: [{{{match}}}]"))

    assert place == f"spec.rules[0].matches[0]{field}"
    assert sentence in told_sentence


@pytest.mark.parametrize(
    "text",
    [
        "type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}",
        "type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: a, value: b}]}",
        "type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 5}",
        "type: ExtensionRef, extensionRef: {group: example.com, kind: Fault, name: a}",
    ],
)
@pytest.mark.parametrize("where", ["filters: [{}]", "backendRefs: [{{name: a, port: 1, filters: [{}]}}]"])
def test_filters_that_mean_something_to_grpc_are_taken(where: str, text: str) -> None:
    assert load(GRPCRoute, rule(where.format(f"{{{text}}}")))


@pytest.mark.parametrize("kind", ["RequestRedirect", "URLRewrite", "CORS", "ExternalAuth"])
@pytest.mark.parametrize(
    ("where", "field"),
    [
        ("filters: [{}]", "filters[0].type"),
        ("backendRefs: [{{name: a, port: 1, filters: [{}]}}]", "backendRefs[0].filters[0].type"),
    ],
)
def test_filters_of_http_are_refused(where: str, field: str, kind: str) -> None:
    place, sentence = told(GRPCRoute, rule(where.format(f"{{type: {kind}}}")))

    assert place == f"spec.rules[0].{field}"
    assert f"'{kind}' is not one of ExtensionRef, RequestHeaderModifier, RequestMirror" in sentence


def test_header_modifiers_stand_once_in_a_list() -> None:
    twice = ", ".join(["{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}"] * 2)

    assert "is repeated" in told(GRPCRoute, rule(f"filters: [{twice}]"))[1]
    assert "is repeated" in told(GRPCRoute, rule(f"backendRefs: [{{name: a, port: 1, filters: [{twice}]}}]"))[1]


MATCH = "{method: {service: s#}}"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (f"rules: [{items('{name: r#}', 17)}]", "spec.rules"),
        (f"rules: [{{matches: [{items(MATCH, 65)}]}}]", "spec.rules[0].matches"),
        (f"rules: [{items(f'{{matches: [{items(MATCH, 43)}]}}', 3)}]", "spec"),
        ("rules: [{name: a}, {name: a}]", "spec"),
        ("rules: [{backendRefs: [{name: a}]}]", "spec.rules[0].backendRefs[0]"),
        ("rules: [{sessionPersistence: {type: Address}}]", "spec.rules[0].sessionPersistence.type"),
        ("hostnames: [A.example]", "spec.hostnames[0]"),
        ("parentRefs: [{name: a}, {name: a}]", "spec"),
    ],
)
def test_limits_names_and_references_are_those_of_the_api(spec: str, field: str) -> None:
    assert told(GRPCRoute, f"{{{spec}}}")[0] == field
