"""What the API server would refuse is refused here too, with the field's path and a sentence."""

from typing import Any

import msgspec
import pytest

from waypoint.config.gateway_api import parse_duration
from waypoint.config.http_route import HTTPRoute


def route(**rule: Any) -> HTTPRoute:
    return spec(rules=[rule])


def spec(**fields: Any) -> HTTPRoute:
    return msgspec.convert({"metadata": {"name": "reviews"}, "spec": fields}, HTTPRoute)


def refusal(**rule: Any) -> str:
    with pytest.raises(msgspec.ValidationError) as refused:
        route(**rule)
    return str(refused.value)


def modifier(kind: str = "request", **lists: Any) -> dict[str, Any]:
    return {"type": f"{kind.title()}HeaderModifier", f"{kind}HeaderModifier": lists}


# -- defaults ------------------------------------------------------------------------------------------------------


def test_what_is_left_out_has_the_defaults_of_the_api() -> None:
    rule = route(backendRefs=[{"name": "reviews", "port": 9080}]).spec.rules[0]

    assert [(match.path.type, match.path.value) for match in rule.matches] == [("PathPrefix", "/")]
    assert (rule.backend_refs[0].kind, rule.backend_refs[0].weight) == ("Service", 1)


def test_a_route_without_rules_covers_everything_and_leads_nowhere() -> None:
    assert len(spec(parentRefs=[{"name": "x"}]).spec.rules) == 1


def test_fields_that_nobody_knows_yet_are_tolerated() -> None:
    assert route(somethingNew={"a": 1}).spec.rules


# -- matches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Exact", "PathPrefix"])
@pytest.mark.parametrize(
    "path", ["x", "", "/a//b", "/a/./b", "/a/../b", "/a%2fb", "/a%2F", "/a#b", "/..", "/a/.", "/a b"]
)
def test_a_path_that_is_not_absolute_and_normal_is_refused(kind: str, path: str) -> None:
    refused = refusal(matches=[{"path": {"type": kind, "value": path}}])

    assert "is no absolute path" in refused or "is not in normal form" in refused
    assert refused.endswith("- at `$.spec.rules[0].matches[0].path`")


def test_an_expression_is_compiled_when_it_is_read() -> None:
    for match in (
        {"path": {"type": "RegularExpression", "value": "("}},
        {"headers": [{"type": "RegularExpression", "name": "a", "value": "("}]},
        {"queryParams": [{"type": "RegularExpression", "name": "a", "value": "("}]},
    ):
        assert "is no RE2 expression" in refusal(matches=[match])


@pytest.mark.parametrize("method", ["get", "PROPFIND", ""])
def test_a_method_is_one_of_those_of_the_api(method: str) -> None:
    assert "method" in refusal(matches=[{"method": method}])


@pytest.mark.parametrize(
    "match",
    [
        {"path": {"value": "/" + "a" * 1024}},
        {"headers": [{"name": f"h{number}", "value": "1"} for number in range(17)]},
        {"headers": [{"name": "h", "value": "1" * 4097}]},
        {"headers": [{"name": "h", "value": ""}]},
        {"headers": [{"name": "bad name", "value": "1"}]},
        {"headers": [{"name": "h" * 257, "value": "1"}]},
        {"queryParams": [{"name": f"q{number}", "value": "1"} for number in range(17)]},
        {"queryParams": [{"name": "q", "value": "1" * 1025}]},
        {"queryParams": [{"name": "", "value": "1"}]},
    ],
)
def test_the_limits_of_a_match_are_those_of_the_api(match: dict[str, Any]) -> None:
    assert refusal(matches=[match])


def test_the_limits_of_rules_are_those_of_the_api() -> None:
    many = [{"path": {"value": f"/{number}"}} for number in range(65)]

    assert refusal(matches=many)
    too_many: list[list[dict[str, Any]]] = [[], [{}] * 17, [{"matches": many[:43]}] * 3]
    for rules in too_many:
        with pytest.raises(msgspec.ValidationError):
            spec(rules=rules)


def test_names_of_rules_are_unique() -> None:
    with pytest.raises(msgspec.ValidationError, match="two rules have the same name"):
        spec(rules=[{"name": "a"}, {"name": "a"}])


@pytest.mark.parametrize("name", ["", "a b", "a\n", 'a"', "A", "-a", "a.", "a" * 254])
def test_a_name_of_a_rule_is_spelled_as_the_api_wants_it(name: str) -> None:
    assert refusal(name=name).endswith("- at `$.spec.rules[0].name`")


def test_names_of_rules_may_have_parts() -> None:
    assert route(name="v2.for-jason").spec.rules[0].name == "v2.for-jason"


# -- backends and filters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", [{"weight": -1}, {"weight": 1_000_001}, {"port": 0}, {"port": 65_536}])
def test_weights_and_ports_have_bounds(ref: dict[str, int]) -> None:
    assert refusal(backendRefs=[{"name": "reviews", **ref}])


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize(
    ("lists", "sentence"),
    [
        ({"set": [{"name": "a", "value": "1"}, {"name": "A", "value": "2"}]}, "stands twice"),
        ({"add": [{"name": "a", "value": "1"}] * 2}, "stands twice"),
        ({"remove": ["a", "A"]}, "stands twice"),
        ({"remove": [f"h{number}" for number in range(17)]}, "length <= 16"),
        ({"set": [{"name": ":path", "value": "/"}]}, "no header name"),
        ({"remove": [":path"]}, "no header name"),
        ({"set": [{"name": "a", "value": "1\r\nb: 2"}]}, "no header value"),
        ({"set": [{"name": "a", "value": " 1"}]}, "no header value"),
        ({"set": [{"name": "a", "value": ""}]}, "length >= 1"),
        ({"set": [{"name": "Content-Length", "value": "1"}]}, "belongs to the connection"),
        ({"remove": ["Transfer-Encoding"]}, "belongs to the connection"),
        ({"add": [{"name": "Host", "value": "a"}]}, "neither added nor removed"),
        ({"remove": ["host"]}, "neither added nor removed"),
        ({"set": [{"name": "Host", "value": "a/b"}]}, "is no host"),
        ({"set": [{"name": "Host", "value": "user@a"}]}, "is no host"),
    ],
)
def test_an_edit_that_could_break_a_message_is_refused(kind: str, lists: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(filters=[modifier(kind, **lists)])
    assert sentence in refusal(backendRefs=[{"name": "reviews", "filters": [modifier(kind, **lists)]}])


def test_host_may_be_set() -> None:
    for host in ("reviews.example.com", "reviews:8080", "[fd00::1]:80"):
        assert route(filters=[modifier(set=[{"name": "Host", "value": host}])])


def test_a_modifier_stands_once_in_a_list_of_filters() -> None:
    twice = [modifier(remove=["a"]), modifier(remove=["b"])]

    assert "stands twice in one list of filters" in refusal(filters=twice)
    assert "stands twice in one list of filters" in refusal(backendRefs=[{"name": "reviews", "filters": twice}])


def test_a_filter_has_the_field_of_its_type_and_no_other() -> None:
    assert "needs requestHeaderModifier" in refusal(filters=[{"type": "RequestHeaderModifier"}])
    assert "has no responseHeaderModifier" in refusal(
        filters=[{**modifier(remove=["a"]), "responseHeaderModifier": {"remove": ["b"]}}]
    )


def test_filters_of_other_types_are_read_for_the_compiler_to_report() -> None:
    filters = route(filters=[{"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}]).spec.rules[0].filters

    assert [it.type for it in filters] == ["RequestRedirect"]


# -- timeouts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("1m30s", 90), ("1h1m1s1ms", 3661.001), ("0s", None), ("0h0ms", None)],
)
def test_durations_are_those_of_gep_2257(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["", "10", "1.5s", "-1s", "1d", "s", "123456s", "1h1m1s1ms1s", "10 s", "١s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)

    assert "is no duration" in refusal(timeouts={"request": text})
    assert "is no duration" in refusal(timeouts={"backendRequest": text})


def test_an_attempt_may_not_take_longer_than_the_request() -> None:
    assert "must not be longer" in refusal(timeouts={"request": "1s", "backendRequest": "2s"})
    assert route(timeouts={"request": "0s", "backendRequest": "2s"})
    assert route(timeouts={"request": "2s", "backendRequest": "0s"})
