"""HTTPRoute's own rules: matches, what filters ask of matches and backends, timeouts, retries, limits."""

import pytest

from tests.kit.kinds import load, told
from waypoint.config.gateway_api.http_route import HTTPRoute


def rule(fields: str) -> str:
    return f"{{rules: [{{{fields}}}]}}"


def items(text: str, count: int) -> str:
    return ", ".join(text.replace("#", str(number)) for number in range(count))


# -- defaults ------------------------------------------------------------------------------------------------------


def test_what_is_left_out_has_the_defaults_of_the_api() -> None:
    given = load(HTTPRoute, rule("backendRefs: [{name: reviews, port: 9080}]")).spec.rules[0]

    assert [(match.path.type, match.path.value) for match in given.matches] == [("PathPrefix", "/")]
    assert (given.backend_refs[0].kind, given.backend_refs[0].weight) == ("Service", 1)
    assert (given.retry, given.session_persistence, given.timeouts.request) == (None, None, None)


def test_a_route_without_rules_covers_everything_and_leads_nowhere() -> None:
    assert len(load(HTTPRoute, "{parentRefs: [{name: x}]}").spec.rules) == 1


# -- matches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Exact", "PathPrefix"])
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("x", "not an absolute path"),
        ("", "not an absolute path"),
        ("/a#b", "not an absolute path"),
        ("/a?b", "not an absolute path"),
        ("/a b", "not an absolute path"),
        ("/a%2", "not an absolute path"),
        ("/ä", "not an absolute path"),
        ("/a//b", "not in normal form"),
        ("/a/./b", "not in normal form"),
        ("/a/../b", "not in normal form"),
        ("/a%2fb", "not in normal form"),
        ("/a%2F", "not in normal form"),
        ("/..", "not in normal form"),
        ("/a/.", "not in normal form"),
    ],
)
def test_a_path_that_is_not_absolute_and_normal_is_refused(kind: str, path: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, rule(f"matches: [{{path: {{type: {kind}, value: '{path}'}}}}]"))

    assert place == "spec.rules[0].matches[0].path"
    assert sentence in told_sentence


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a.b/..c", "/%20", "/-._~!$&()*+,;=:@"])
def test_a_path_of_any_characters_that_a_path_may_have_is_taken(path: str) -> None:
    assert load(HTTPRoute, rule(f"matches: [{{path: {{type: Exact, value: '{path}'}}}}]"))


@pytest.mark.parametrize(
    ("match", "field", "sentence"),
    [
        ("path: {type: Glob}", ".path.type", "'Glob' is not one of Exact, PathPrefix, RegularExpression"),
        ("path: {type: RegularExpression, value: (}", ".path", "is not a valid RE2 expression"),
        (f"path: {{value: /{'a' * 1024}}}", ".path.value", "length <= 1024"),
        ("headers: [{type: RegularExpression, name: a, value: (}]", ".headers[0]", "is not a valid RE2 expression"),
        ("headers: [{type: Prefix, name: a, value: a}]", ".headers[0].type", "is not one of Exact, RegularExpression"),
        ("headers: [{name: a b, value: '1'}]", ".headers[0].name", "'a b' is not a header name"),
        ("headers: [{name: '', value: '1'}]", ".headers[0].name", "is not a header name"),
        (f"headers: [{{name: {'h' * 257}, value: '1'}}]", ".headers[0].name", "length <= 256"),
        ("headers: [{name: a, value: ''}]", ".headers[0].value", "length >= 1"),
        ("headers: [{name: a, value: 1}]", ".headers[0].value", "expected `str`, got `int`"),
        (f"headers: [{{name: a, value: {'v' * 4097}}}]", ".headers[0].value", "length <= 4096"),
        ("headers: [{name: a, value: x}, {name: a, value: y}]", "", "a is repeated"),
        (f"headers: [{items('{name: h#, value: x}', 17)}]", ".headers", "length <= 16"),
        (
            "queryParams: [{type: RegularExpression, name: a, value: (}]",
            ".queryParams[0]",
            "is not a valid RE2 expression",
        ),
        ("queryParams: [{name: 'a[]', value: x}]", ".queryParams[0].name", "'a[]' is not a parameter name that"),
        ("queryParams: [{name: '', value: x}]", ".queryParams[0].name", "is not a parameter name"),
        ("queryParams: [{name: a, value: x}, {name: a, value: y}]", "", "a is repeated"),
        (f"queryParams: [{{name: a, value: {'v' * 1025}}}]", ".queryParams[0].value", "length <= 1024"),
        (f"queryParams: [{items('{name: q#, value: x}', 17)}]", ".queryParams", "length <= 16"),
        ("method: get", ".method", "'get' is not one of CONNECT, DELETE, GET"),
        ("method: PROPFIND", ".method", "'PROPFIND' is not one of"),
        ("method: '*'", ".method", "'*' is not one of"),
    ],
)
def test_a_match_asks_what_the_api_lets_it_ask(match: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, rule(f"matches: [{{{match}}}]"))

    assert place == f"spec.rules[0].matches[0]{field}"
    assert sentence in told_sentence


def test_names_that_differ_by_case_alone_may_stand_side_by_side_and_the_first_counts() -> None:
    assert load(HTTPRoute, rule("matches: [{headers: [{name: a, value: x}, {name: A, value: y}]}]"))


# -- what filters ask of a rule ------------------------------------------------------------------------------------

PREFIX = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}"
REDIRECT = f"{{type: RequestRedirect, requestRedirect: {{{PREFIX}}}}}"
REWRITE = f"{{type: URLRewrite, urlRewrite: {{{PREFIX}}}}}"


@pytest.mark.parametrize(
    "matches",
    [
        "[]",
        "[{path: {value: /a}}, {path: {value: /b}}]",
        "[{path: {type: Exact, value: /a}}]",
        "[{path: {type: RegularExpression, value: /a}}]",
    ],
)
@pytest.mark.parametrize(
    "filters",
    [f"filters: [{REDIRECT}]", f"filters: [{REWRITE}]", f"backendRefs: [{{name: a, port: 1, filters: [{REWRITE}]}}]"],
)
def test_a_prefix_is_replaced_only_where_exactly_one_can_have_matched(filters: str, matches: str) -> None:
    assert told(HTTPRoute, rule(f"matches: {matches}, {filters}")) == (
        "spec.rules[0]",
        "ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix",
    )


@pytest.mark.parametrize("matches", ["matches: [{path: {value: /a}}], ", "matches: [{method: GET}], ", ""])
def test_a_prefix_may_be_that_of_every_path(matches: str) -> None:
    assert load(HTTPRoute, rule(f"{matches}filters: [{REWRITE}]"))


def test_a_full_path_is_replaced_whatever_matched() -> None:
    path = "path: {type: ReplaceFullPath, replaceFullPath: /x}"

    assert load(HTTPRoute, rule(f"matches: [], filters: [{{type: URLRewrite, urlRewrite: {{{path}}}}}]"))


def test_a_redirect_has_no_backends() -> None:
    redirect = "filters: [{type: RequestRedirect, requestRedirect: {}}]"

    assert load(HTTPRoute, rule(f"{redirect}, backendRefs: []"))
    assert told(HTTPRoute, rule(f"{redirect}, backendRefs: [{{name: a, port: 1}}]")) == (
        "spec.rules[0]",
        "RequestRedirect sends the response itself: remove the filter or backendRefs",
    )


# -- timeouts and retries ------------------------------------------------------------------------------------------


def test_an_attempt_may_not_take_longer_than_the_request() -> None:
    assert told(HTTPRoute, rule("timeouts: {request: 1s, backendRequest: 2s}")) == (
        "spec.rules[0].timeouts",
        "backendRequest 2s must not be longer than request 1s",
    )


@pytest.mark.parametrize("timeouts", ["request: 0s, backendRequest: 2s", "request: 2s, backendRequest: 0s", ""])
def test_a_timeout_of_zero_is_none(timeouts: str) -> None:
    assert load(HTTPRoute, rule(f"timeouts: {{{timeouts}}}"))


@pytest.mark.parametrize(
    ("retry", "field", "sentence"),
    [
        ("codes: [399]", ".codes[0]", "`int` >= 400"),
        ("codes: [503, 600]", ".codes[1]", "`int` <= 599"),
        ("codes: ['503']", ".codes[0]", "expected `int`, got `str`"),
        ("attempts: -1", ".attempts", "`int` >= 0"),
        ("attempts: 1.5", ".attempts", "got `float`"),
        ("backoff: 100", ".backoff", "got `int`"),
        ("backoff: 1d", ".backoff", "'1d' is not a duration such as 10s"),
    ],
)
def test_what_is_retried_is_said_clearly(retry: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, rule(f"retry: {{{retry}}}"))

    assert place == f"spec.rules[0].retry{field}"
    assert sentence in told_sentence


def test_everything_of_a_retry_may_be_left_out() -> None:
    retry = load(HTTPRoute, rule("retry: {}")).spec.rules[0].retry

    assert retry is not None
    assert (retry.codes, retry.attempts, retry.backoff) == ((), None, None)


# -- limits and names ----------------------------------------------------------------------------------------------

MATCH = "{path: {value: /p#}}"
BACKEND = "{name: b#, port: 1}"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("rules: []", "spec.rules"),
        (f"rules: [{items('{name: r#}', 17)}]", "spec.rules"),
        (f"rules: [{{matches: [{items(MATCH, 65)}]}}]", "spec.rules[0].matches"),
        (f"rules: [{items(f'{{matches: [{items(MATCH, 43)}]}}', 3)}]", "spec"),
        (f"rules: [{{backendRefs: [{items(BACKEND, 17)}]}}]", "spec.rules[0].backendRefs"),
        (f"hostnames: [{items('h#.example', 17)}]", "spec.hostnames"),
    ],
)
def test_a_route_is_as_large_as_the_api_lets_it_be(spec: str, field: str) -> None:
    assert told(HTTPRoute, f"{{{spec}}}")[0] == field


def test_a_route_may_have_128_matches_together() -> None:
    two = items(f"{{matches: [{items(MATCH, 64)}]}}", 2)

    assert load(HTTPRoute, f"{{rules: [{two}]}}")
    assert "129 matches exceed the limit of 128" in told(HTTPRoute, f"{{rules: [{two}, {{}}]}}")[1]


def test_names_of_rules_are_unique() -> None:
    assert told(HTTPRoute, "{rules: [{name: a}, {}, {name: a}]}") == (
        "spec",
        "rules: two rules have the name a; rename one",
    )


@pytest.mark.parametrize("name", ["''", "a b", '"a\\n"', "'a\"'", "A", "-a", "a.", "a" * 254])
def test_a_name_of_a_rule_is_spelled_as_the_api_wants_it(name: str) -> None:
    assert told(HTTPRoute, rule(f"name: {name}"))[0] == "spec.rules[0].name"


def test_names_of_rules_may_have_parts() -> None:
    assert load(HTTPRoute, rule("name: v2.for-jason"))


@pytest.mark.parametrize("host", ["''", "A.example", "a.example:80", "'*'", "'*a.example'", "a.*.example", "a_b", "a."])
def test_hostnames_are_lower_case_names_with_a_star_in_front_at_most(host: str) -> None:
    place, sentence = told(HTTPRoute, f"{{hostnames: [b.example, {host}]}}")

    assert place == "spec.hostnames[1]"
    assert "is not a host such as reviews.example.com or *.example.com" in sentence


def test_hostnames_may_begin_with_a_star() -> None:
    assert load(HTTPRoute, "{hostnames: [localhost, '*.example.com']}")
