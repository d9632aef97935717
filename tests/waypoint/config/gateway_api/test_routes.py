"""Validation common to several kinds of routes: what the API server would refuse is a problem with a field."""

import pytest

from tests.kit.kinds import load, told
from waypoint.config.gateway_api.http_route import HTTPRoute
from waypoint.config.gateway_api.routes import Filter, SessionPersistence

LONG = "a" * 254


def spec(fields: str) -> str:
    return f"{{{fields}}}"


def rule(fields: str) -> str:
    return f"{{rules: [{{{fields}}}]}}"


def filters(*texts: str) -> str:
    return rule(f"filters: [{', '.join(f'{{{text}}}' for text in texts)}]")


def loaded(text: str) -> Filter:
    return load(HTTPRoute, filters(text)).spec.rules[0].filters[0]


def session(text: str) -> SessionPersistence:
    found = load(HTTPRoute, rule(f"sessionPersistence: {{{text}}}")).spec.rules[0].session_persistence
    assert found is not None
    return found


# -- references ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "field", "sentence"),
    [
        ("{}", "", "missing required field `name`"),
        ("{name: ''}", ".name", "length >= 1"),
        (f"{{name: {LONG}}}", ".name", "length <= 253"),
        ("{name: a, kind: Ser/vice}", ".kind", "'Ser/vice' is not a kind such as Service"),
        ("{name: a, kind: ''}", ".kind", "is not a kind"),
        ("{name: a, group: a/b}", ".group", "'a/b' is not an API group such as apps"),
        ("{name: a, namespace: a.b}", ".namespace", "'a.b' is not a namespace"),
        ("{name: a, namespace: A}", ".namespace", "is not a namespace"),
        ("{name: a, port: 0}", ".port", "`int` >= 1"),
        ("{name: a, port: 65536}", ".port", "`int` <= 65535"),
        ("{name: a, port: http}", ".port", "expected `int | null`, got `str`"),
        ("{name: a, sectionName: a_b}", ".sectionName", "'a_b' is not a name"),
    ],
)
def test_a_parent_is_named_as_the_api_wants_it(ref: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, spec(f"parentRefs: [{ref}]"))

    assert place == f"spec.parentRefs[0]{field}"
    assert sentence in told_sentence


@pytest.mark.parametrize(
    ("refs", "sentence"),
    [
        ("{name: a}, {name: a}", "Gateway a is repeated"),
        ("{name: a, port: 1}, {name: a, port: 1}", "Gateway a is repeated"),
        ("{name: a, sectionName: x}, {name: a, sectionName: x}", "Gateway a is repeated"),
        ("{name: a, port: 1}, {name: a}", "with and without sectionName or port"),
        ("{name: a, sectionName: x}, {name: a}", "with and without sectionName or port"),
        ("{name: a, sectionName: x}, {name: a, port: 1}", "with and without sectionName or port"),
        ("{name: a, sectionName: x, port: 1}, {name: a, port: 1}", "with and without sectionName or port"),
        (
            "{name: a, kind: Service, group: ''}, {name: b}, {name: a, kind: Service, group: ''}",
            "Service a is repeated",
        ),
    ],
)
def test_references_to_the_same_parent_mean_different_ports_of_it(refs: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, spec(f"parentRefs: [{refs}]"))

    assert place == "spec"
    assert sentence in told_sentence


@pytest.mark.parametrize(
    "refs",
    [
        "{name: a}, {name: b}",
        "{name: a}, {name: a, namespace: b}",
        "{name: a}, {name: a, kind: Service, group: ''}",
        "{name: a, port: 1}, {name: a, port: 2}",
        "{name: a, sectionName: x}, {name: a, sectionName: y}",
        "{name: a, sectionName: x, port: 1}, {name: a, sectionName: x, port: 2}",
    ],
)
def test_distinct_parents_stand_side_by_side(refs: str) -> None:
    assert len(load(HTTPRoute, spec(f"parentRefs: [{refs}]")).spec.parent_refs) == 2


def test_a_route_has_at_most_32_parents() -> None:
    many = [f"{{name: a{number}}}" for number in range(33)]

    assert load(HTTPRoute, spec(f"parentRefs: [{', '.join(many[:32])}]"))
    assert told(HTTPRoute, spec(f"parentRefs: [{', '.join(many)}]"))[0] == "spec.parentRefs"


@pytest.mark.parametrize(
    ("ref", "field", "sentence"),
    [
        ("{name: a}", "", "Service a needs a port: add one of the Service's port numbers"),
        ("{name: a, port: 1, weight: -1}", ".weight", "`int` >= 0"),
        ("{name: a, port: 1, weight: 1000001}", ".weight", "`int` <= 1000000"),
        ("{name: a, port: 0}", ".port", "`int` >= 1"),
        ("{name: a, port: 1, namespace: A}", ".namespace", "is not a namespace"),
        ("{port: 1}", "", "missing required field `name`"),
    ],
)
def test_a_backend_is_named_as_the_api_wants_it(ref: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, rule(f"backendRefs: [{ref}]"))

    assert place == f"spec.rules[0].backendRefs[0]{field}"
    assert sentence in told_sentence


def test_only_a_service_needs_a_port() -> None:
    assert load(HTTPRoute, rule("backendRefs: [{group: networking.istio.io, kind: Hostname, name: example.com}]"))


# -- filters -------------------------------------------------------------------------------------------------------

MIRROR = "requestMirror: {backendRef: {name: a, port: 1}}"
AUTH = "protocol: HTTP, backendRef: {name: a, port: 1}"
FILTERS = {
    "RequestHeaderModifier": "requestHeaderModifier: {remove: [a]}",
    "ResponseHeaderModifier": "responseHeaderModifier: {remove: [a]}",
    "RequestMirror": MIRROR,
    "RequestRedirect": "requestRedirect: {}",
    "URLRewrite": "urlRewrite: {}",
    "CORS": "cors: {}",
    "ExternalAuth": f"externalAuth: {{{AUTH}, http: {{}}}}",
    "ExtensionRef": "extensionRef: {group: example.com, kind: Fault, name: a}",
}


@pytest.mark.parametrize("kind", FILTERS)
def test_a_filter_has_the_field_of_its_type_and_no_other(kind: str) -> None:
    field = FILTERS[kind].partition(":")[0]
    other = next(it for it in FILTERS if it != kind)

    assert loaded(f"type: {kind}, {FILTERS[kind]}").type == kind
    assert told(HTTPRoute, filters(f"type: {kind}")) == ("spec.rules[0].filters[0]", f"type is {kind}: add {field}")
    assert told(HTTPRoute, filters(f"type: {other}, {FILTERS[other]}, {FILTERS[kind]}")) == (
        "spec.rules[0].filters[0]",
        f"type is {other}: remove {field}",
    )


def test_a_type_that_the_api_does_not_have_is_refused_with_those_it_has() -> None:
    place, sentence = told(HTTPRoute, filters("type: RequestMirrors"))

    assert place == "spec.rules[0].filters[0].type"
    assert sentence == f"'RequestMirrors' is not one of {', '.join(sorted(FILTERS))}"


@pytest.mark.parametrize("where", ["filters: [{}]", "backendRefs: [{{name: a, port: 1, filters: [{}]}}]"])
@pytest.mark.parametrize("kind", FILTERS)
def test_filters_of_one_type_stand_once_but_mirrors_and_extensions(kind: str, where: str) -> None:
    twice = ", ".join([f"{{type: {kind}, {FILTERS[kind]}}}"] * 2)
    fields = rule(where.format(twice))

    if kind in {"RequestMirror", "ExtensionRef"}:
        assert load(HTTPRoute, fields)
    else:
        assert f"{kind} is repeated in one list of filters" in told(HTTPRoute, fields)[1]


def test_a_redirect_and_a_rewrite_exclude_each_other() -> None:
    both = filters("type: RequestRedirect, requestRedirect: {}", "type: URLRewrite, urlRewrite: {}")

    assert "exclude each other" in told(HTTPRoute, both)[1]


def test_a_list_has_at_most_16_filters() -> None:
    assert told(HTTPRoute, filters(*[f"type: RequestMirror, {MIRROR}"] * 17))[0] == "spec.rules[0].filters"


@pytest.mark.parametrize("kind", ["Request", "Response"])
@pytest.mark.parametrize(
    ("lists", "field", "sentence"),
    [
        ("set: [{name: a, value: x}, {name: A, value: x}]", "", "a is repeated"),
        ("add: [{name: a, value: x}, {name: a, value: x}]", "", "a is repeated"),
        ("remove: [a, A]", "", "a is repeated"),
        ("remove: [Transfer-Encoding]", "", "transfer-encoding belongs to the connection"),
        ("set: [{name: Content-Length, value: '1'}]", "", "content-length belongs to the connection"),
        ("add: [{name: Host, value: a}]", "", "neither added nor removed"),
        ("remove: [host]", "", "neither added nor removed"),
        ("set: [{name: ':path', value: /}]", ".set[0].name", "':path' is not a header name (RFC 9110 5.1)"),
        ("remove: [':path']", ".remove[0]", "is not a header name"),
        ("remove: ['']", ".remove[0]", "is not a header name"),
        (f"remove: [{'a' * 257}]", ".remove[0]", "length <= 256"),
        (f"remove: [{', '.join(f'h{number}' for number in range(17))}]", ".remove", "length <= 16"),
        ('set: [{name: a, value: "1\\r\\nb: 2"}]', ".set[0]", "is not a header value"),
        ("set: [{name: a, value: ' 1'}]", ".set[0]", "is not a header value"),
        ("set: [{name: a, value: ''}]", ".set[0].value", "length >= 1"),
        (f"set: [{{name: a, value: {'1x' * 2049}}}]", ".set[0].value", "length <= 4096"),
        ("set: [{name: Host, value: a/b}]", ".set[0]", "is not a host"),
        ("set: [{name: Host, value: user@a}]", ".set[0]", "is not a host"),
    ],
)
def test_an_edit_that_could_break_a_message_is_refused(kind: str, lists: str, field: str, sentence: str) -> None:
    modifier = f"{kind.lower()}HeaderModifier"

    place, told_sentence = told(HTTPRoute, filters(f"type: {kind}HeaderModifier, {modifier}: {{{lists}}}"))

    assert place == f"spec.rules[0].filters[0].{modifier}{field}"
    assert sentence in told_sentence


@pytest.mark.parametrize("host", ["reviews.example.com", "reviews:8080", "'[fd00::1]:80'"])
def test_host_may_be_set(host: str) -> None:
    assert loaded(f"type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: Host, value: {host}}}]}}")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("{type: ReplaceFullPath}", "type is ReplaceFullPath: add replaceFullPath"),
        ("{type: ReplacePrefixMatch}", "type is ReplacePrefixMatch: add replacePrefixMatch"),
        ("{type: ReplaceFullPath, replacePrefixMatch: /}", "add replaceFullPath"),
        ("{type: ReplacePrefixMatch, replaceFullPath: /}", "remove replaceFullPath"),
        ("{type: ReplaceFullPath, replaceFullPath: /, replacePrefixMatch: /}", "remove replacePrefixMatch"),
        ("{type: ReplaceFullPath, replaceFullPath: a}", "'a' is not a path: it must begin with /"),
        ("{type: ReplaceFullPath, replaceFullPath: /a?b}", "'/a?b' is not a path"),
        ("{type: ReplaceFullPath, replaceFullPath: '/a b'}", "'/a b' is not a path"),
        ('{type: ReplacePrefixMatch, replacePrefixMatch: "/a\\r\\nb"}', "is not a path"),
        ("{type: ReplacePrefixMatch, replacePrefixMatch: /%2}", "is not a path"),
    ],
)
@pytest.mark.parametrize("kind", ["RequestRedirect", "URLRewrite"])
def test_a_new_path_is_of_its_type_and_can_stand_in_a_request(kind: str, path: str, sentence: str) -> None:
    field = FILTERS[kind].partition(":")[0]

    place, told_sentence = told(HTTPRoute, filters(f"type: {kind}, {field}: {{path: {path}}}"))

    assert place == f"spec.rules[0].filters[0].{field}.path"
    assert sentence in told_sentence


def test_an_empty_prefix_takes_the_matched_one_away() -> None:
    assert loaded("type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}")


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        ("scheme: ftp", ".scheme", "'ftp' is not one of http, https"),
        ("hostname: '*.example.com'", ".hostname", "'*.example.com' is not a host such as reviews.example.com"),
        ("hostname: Example.com", ".hostname", "in lower case"),
        ("hostname: example.com:80", ".hostname", "without port"),
        ("port: 0", ".port", "`int` >= 1"),
        ("statusCode: 304", ".statusCode", "304 is not one of 301, 302, 303, 307, 308"),
        ("statusCode: '301'", ".statusCode", "expected `int`, got `str`"),
        ("path: {type: ReplaceAll}", ".path.type", "'ReplaceAll' is not one of ReplaceFullPath, ReplacePrefixMatch"),
    ],
)
def test_a_redirect_leads_where_the_api_lets_it(text: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, filters(f"type: RequestRedirect, requestRedirect: {{{text}}}"))

    assert place == f"spec.rules[0].filters[0].requestRedirect{field}"
    assert sentence in told_sentence


def test_a_redirect_is_a_302_unless_it_says_otherwise() -> None:
    given = loaded("type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, hostname: example.com}")

    assert given.request_redirect is not None
    assert given.request_redirect.status_code == 302


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        ("percent: 5", "", "missing required field `backendRef`"),
        ("backendRef: {name: a}", ".backendRef", "Service a needs a port"),
        ("backendRef: {name: a, port: 1}, percent: 101", ".percent", "`int` <= 100"),
        ("backendRef: {name: a, port: 1}, percent: -1", ".percent", "`int` >= 0"),
        ("backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}", "", "keep one of them"),
        ("backendRef: {name: a, port: 1}, fraction: {numerator: 101}", ".fraction", "101/100 is more than 1"),
        ("backendRef: {name: a, port: 1}, fraction: {numerator: -1}", ".fraction.numerator", "`int` >= 0"),
        ("backendRef: {name: a, port: 1}, fraction: {numerator: 0, denominator: 0}", ".fraction.denominator", ">= 1"),
    ],
)
def test_a_mirror_gets_a_share_of_all_requests(text: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, filters(f"type: RequestMirror, requestMirror: {{{text}}}"))

    assert place == f"spec.rules[0].filters[0].requestMirror{field}"
    assert sentence in told_sentence


@pytest.mark.parametrize(
    "origin",
    ["*", "https://example.com", "http://example.com:8080", "https://*.example.com", "http://*:80", "https://*"],
)
def test_origins_are_those_that_browsers_send_with_at_most_one_star(origin: str) -> None:
    assert loaded(f"type: CORS, cors: {{allowOrigins: ['{origin}']}}")


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        ("allowOrigins: [example.com]", "", "allowOrigins: 'example.com' is not an origin, such as"),
        ("allowOrigins: ['https://']", "", "is not an origin"),
        ("allowOrigins: ['https://a/']", "", "is not an origin"),
        ("allowOrigins: ['https://a:b']", "", "is not an origin"),
        ("allowOrigins: ['https://*.*.a']", "", "is not an origin"),
        ("allowOrigins: ['http://*bar.com']", "", "is not an origin"),
        ("allowOrigins: ['http://bar.*.com']", "", "is not an origin"),
        ("allowOrigins: ['spiffe://a.example/x']", "", "is not an origin"),
        ("allowOrigins: ['app://localhost']", "", "is not an origin"),
        ("allowOrigins: ['*', 'https://a']", "", "allowOrigins: * includes all values"),
        ("allowOrigins: ['https://a', 'https://a']", "", "allowOrigins: https://a is repeated"),
        ("allowMethods: ['*', GET]", "", "allowMethods: * includes all values"),
        ("allowMethods: [GET, GET]", "", "allowMethods: GET is repeated"),
        ("allowMethods: [get]", ".allowMethods[0]", "'get' is not one of *, CONNECT"),
        ("allowHeaders: ['*', a]", "", "allowHeaders: * includes all values"),
        ("allowHeaders: ['a b']", ".allowHeaders[0]", "is not a header name"),
        ("exposeHeaders: [a, a]", "", "exposeHeaders: a is repeated"),
        ("exposeHeaders: ['']", ".exposeHeaders[0]", "is not a header name"),
        (f"exposeHeaders: [{', '.join(f'h{number}' for number in range(65))}]", ".exposeHeaders", "length <= 64"),
        ("maxAge: 0", ".maxAge", "`int` >= 1"),
        ("maxAge: 5s", ".maxAge", "expected `int`, got `str`"),
        ("allowCredentials: 'true'", ".allowCredentials", "expected `bool`, got `str`"),
    ],
)
def test_what_other_origins_may_do_is_said_clearly(text: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, filters(f"type: CORS, cors: {{{text}}}"))

    assert place == f"spec.rules[0].filters[0].cors{field}"
    assert sentence in told_sentence


def test_browsers_remember_a_preflight_for_five_seconds_unless_told_otherwise() -> None:
    cors = loaded("type: CORS, cors: {allowOrigins: ['*'], exposeHeaders: ['*', Authorization]}").cors

    assert cors is not None
    assert (cors.max_age, cors.allow_credentials) == (5, False)


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        (AUTH, "", "protocol is HTTP: add http, at least {}"),
        (f"{AUTH}, http: {{}}, grpc: {{}}", "", "protocol is HTTP: remove grpc"),
        ("protocol: GRPC, backendRef: {name: a, port: 1}", "", "protocol is GRPC: add grpc"),
        ("protocol: GRPC, http: {}, backendRef: {name: a, port: 1}", "", "protocol is GRPC: add grpc"),
        ("protocol: TCP, backendRef: {name: a, port: 1}", ".protocol", "'TCP' is not one of GRPC, HTTP"),
        ("protocol: HTTP, http: {}", "", "missing required field `backendRef`"),
        ("protocol: HTTP, http: {}, backendRef: {name: a}", ".backendRef", "needs a port"),
        (f"{AUTH}, http: {{path: a b}}", ".http", "path: 'a b' is not a path"),
        (f"{AUTH}, http: {{allowedHeaders: [':path']}}", ".http.allowedHeaders[0]", "is not a header name"),
        (f"{AUTH}, http: {{}}, forwardBody: {{maxSize: 65536}}", ".forwardBody.maxSize", "`int` <= 65535"),
    ],
)
def test_external_authorization_is_asked_by_one_protocol(text: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, filters(f"type: ExternalAuth, externalAuth: {{{text}}}"))

    assert place == f"spec.rules[0].filters[0].externalAuth{field}"
    assert sentence in told_sentence


@pytest.mark.parametrize("text", ["kind: A", "name: a", "name: a, kind: A/B", "name: a, kind: A, group: A"])
def test_an_extension_is_named_as_the_api_wants_it(text: str) -> None:
    assert "extensionRef" in told(HTTPRoute, filters(f"type: ExtensionRef, extensionRef: {{{text}}}"))[0]


# -- sessions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        ("type: Address", ".type", "'Address' is not one of Cookie, Header"),
        ("sessionName: 'a b'", "", "'a b' is not a valid cookie or header name"),
        (f"sessionName: {'a' * 129}", ".sessionName", "length <= 128"),
        ("absoluteTimeout: 1d", ".absoluteTimeout", "'1d' is not a duration such as 10s"),
        ("cookieConfig: {lifetimeType: Forever}", ".cookieConfig.lifetimeType", "is not one of Permanent, Session"),
        ("cookieConfig: {lifetimeType: Permanent}", "", "needs an absoluteTimeout above 0"),
        ("cookieConfig: {lifetimeType: Permanent}, absoluteTimeout: 0s", "", "needs an absoluteTimeout above 0"),
        ("type: Header, cookieConfig: {}", "", "cookieConfig applies only to sessions of type Cookie"),
    ],
)
def test_a_session_is_kept_as_the_api_lets_it(text: str, field: str, sentence: str) -> None:
    place, told_sentence = told(HTTPRoute, rule(f"sessionPersistence: {{{text}}}"))

    assert place == f"spec.rules[0].sessionPersistence{field}"
    assert sentence in told_sentence


def test_a_session_is_a_cookie_that_ends_with_the_browser_unless_it_says_otherwise() -> None:
    assert session("sessionName: who").type == "Cookie"
    assert session("cookieConfig: {}").cookie_config is not None
    assert session("cookieConfig: {lifetimeType: Permanent}, absoluteTimeout: 1h").absolute_timeout == "1h"


# -- durations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "10", "1.5s", "-1s", "1d", "s", "123456s", "1h1m1s1ms1s", "10 s", "١s"])
@pytest.mark.parametrize("field", ["request", "backendRequest"])
def test_other_durations_are_refused(field: str, text: str) -> None:
    place, sentence = told(HTTPRoute, rule(f"timeouts: {{{field}: '{text}'}}"))

    assert place == f"spec.rules[0].timeouts.{field}"
    assert "is not a duration such as 10s, 500ms or 1m30s" in sentence
