import pytest

from tests.kit.lints import lints, places, route
from waypoint.ask.codes import LintCode
from waypoint.config.codes import ConfigCode

TO_REVIEWS = "backendRefs: [{name: reviews, port: 80}]"
ALL = "{backendRefs: [{name: reviews, port: 80}]}"


def of_path(path: str, kind: str = "PathPrefix") -> str:
    return f"{{matches: [{{path: {{type: {kind}, value: {path}}}}}], {TO_REVIEWS}}}"


def test_of_a_plain_route_nothing_is_said() -> None:
    assert lints(route(ALL)) == []


def test_a_rule_behind_a_catch_all_of_its_own_route_never_matches() -> None:
    (problem,) = lints(route(f"{ALL}, {ALL}"))

    assert (problem.code, problem.field) == (ConfigCode.RULE_NEVER_MATCHES, "spec.rules[1]")
    assert "HTTPRoute default/reviews rules[0]" in problem.sentence


def test_a_rule_behind_the_same_match_of_an_older_route_never_matches() -> None:
    found = places(
        ConfigCode.RULE_NEVER_MATCHES, route(of_path("/a"), name="older"), route(of_path("/a"), name="younger")
    )

    assert found == ["HTTPRoute default/younger spec.rules[0]"]


def test_a_rule_that_matches_in_one_of_two_services_is_left_alone() -> None:
    other = "apiVersion: v1\nkind: Service\nmetadata: {name: ratings}\nspec: {ports: [{name: http, port: 80}]}\n"
    both = '{group: "", kind: Service, name: reviews}, {group: "", kind: Service, name: ratings}'

    assert places(ConfigCode.RULE_NEVER_MATCHES, other, route(ALL, name="a"), route(ALL, name="b", parent=both)) == []


def test_one_match_of_a_rule_that_has_others_is_told_by_itself() -> None:
    paths = "matches: [{path: {value: /a}}, {path: {value: /b}}]"
    several = f"{{{paths}, {TO_REVIEWS}}}"

    (problem,) = lints(route(of_path("/a"), name="older"), route(several, name="younger"))

    assert problem.field == "spec.rules[0].matches[0]"
    assert problem.sentence.startswith("never matches")


def test_of_two_opaque_routes_for_the_same_the_younger_one_never_matches() -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{name: tcp, port: 80}]}\n"
    parent = '{group: "", kind: Service, name: db}'
    older, younger = (
        route("{backendRefs: [{name: db, port: 80}]}", name, parent)
        .replace("HTTPRoute", "TCPRoute")
        .replace("v1", "v1alpha2")
        for name in ("a", "b")
    )

    assert places(ConfigCode.RULE_NEVER_MATCHES, service, older, younger) == ["TCPRoute default/b spec.rules[0]"]
    assert places(ConfigCode.RULE_NEVER_MATCHES, service, older) == []


def test_a_method_of_grpc_that_an_older_route_takes_never_matches() -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: rpc}\nspec: {ports: [{name: grpc, port: 80}]}\n"
    backends = "backendRefs: [{name: rpc, port: 80}]"
    rule = f"{{matches: [{{method: {{service: a.B, method: C}}}}, {{method: {{service: a.B}}}}], {backends}}}"
    older = f"{{matches: [{{method: {{service: a.B}}}}], {backends}}}"
    parent = '{group: "", kind: Service, name: rpc}'
    routes = (route(it, name, parent).replace("HTTPRoute", "GRPCRoute") for it, name in ((older, "a"), (rule, "b")))

    assert places(ConfigCode.RULE_NEVER_MATCHES, service, *routes) == ["GRPCRoute default/b spec.rules[0].matches[1]"]


def test_a_match_that_a_rule_repeats_takes_nothing_away() -> None:
    twice = f"{{matches: [{{path: {{value: /a}}}}, {{path: {{value: /a}}}}], {TO_REVIEWS}}}"

    assert places(ConfigCode.RULE_NEVER_MATCHES, route(twice)) == []


def test_hostnames_have_no_effect_behind_a_service() -> None:
    hosts = route(ALL).replace("rules:", "hostnames: [reviews.example.com], rules:")
    also_a_gateway = hosts.replace("parentRefs: [", "parentRefs: [{name: ingress}, ")

    assert places(LintCode.HOSTNAMES_IGNORED, hosts) == ["HTTPRoute default/reviews spec.hostnames"]
    assert places(LintCode.HOSTNAMES_IGNORED, also_a_gateway) == []


def test_a_weight_of_zero_beside_others_never_counts() -> None:
    rule = "{backendRefs: [{name: reviews, port: 80, weight: 5}, {name: reviews, port: 80, weight: 0}]}"

    assert places(LintCode.BACKEND_NEVER_COUNTS, route(rule)) == [
        "HTTPRoute default/reviews spec.rules[0].backendRefs[1].weight"
    ]
    assert places(LintCode.BACKEND_NEVER_COUNTS, route(ALL)) == []


def test_a_rule_whose_weights_are_all_zero_or_that_has_no_backends_answers_500() -> None:
    zeros = "{backendRefs: [{name: reviews, port: 80, weight: 0}]}"
    nothing = "{matches: [{path: {value: /a}}]}"
    redirect = "{filters: [{type: RequestRedirect, requestRedirect: {hostname: ratings}}]}"

    assert places(LintCode.RULE_WITHOUT_BACKEND, route(zeros)) == [
        "HTTPRoute default/reviews spec.rules[0].backendRefs"
    ]
    assert places(LintCode.RULE_WITHOUT_BACKEND, route(nothing)) == ["HTTPRoute default/reviews spec.rules[0]"]
    assert places(LintCode.RULE_WITHOUT_BACKEND, route(redirect)) == []


@pytest.mark.parametrize(
    ("cors", "is_told"),
    [
        ('allowOrigins: ["*"], allowCredentials: true', True),
        ('allowOrigins: ["https://*"], allowCredentials: true', True),
        ('allowOrigins: ["*"]', False),
        ("allowOrigins: [https://example.com], allowCredentials: true", False),
    ],
)
def test_credentials_for_any_origin_are_told(cors: str, is_told: bool) -> None:
    rule = f"{{filters: [{{type: CORS, cors: {{{cors}}}}}], {TO_REVIEWS}}}"

    found = places(LintCode.CREDENTIALS_FOR_ANY_ORIGIN, route(rule))

    assert found == (["HTTPRoute default/reviews spec.rules[0].filters"] if is_told else [])


@pytest.mark.parametrize(("request_time", "is_told"), [("5s", True), ("6s", False)])
def test_a_timeout_shorter_than_all_attempts_is_told(request_time: str, is_told: bool) -> None:
    times = f"timeouts: {{request: {request_time}, backendRequest: 2s}}, retry: {{attempts: 2, codes: [503]}}"

    found = places(LintCode.TIMEOUT_CUTS_RETRIES, route(f"{{{times}, {TO_REVIEWS}}}"))

    assert found == (["HTTPRoute default/reviews spec.rules[0].timeouts.request"] if is_told else [])
