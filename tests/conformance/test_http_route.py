"""The Gateway API's conformance tests of HTTPRoutes on a Service, rewritten, through real tunnels.

A case consists of a route's rules, and requests with their expected results. It covers all tests of the mesh profile,
and those of the gateway profile that make sense without a Gateway's listeners.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from l4.config.settings import Settings
from tests.kit.aio import run
from tests.kit.echo import Answer, EchoMesh, echo_mesh
from waypoint.config.settings import ConfigSettings


@dataclass(frozen=True)
class Ask:
    """A request, and what must come of it: `pod` answers (none by default: it is answered on the way), seeing these
    headers (None: seeing none), path and host; the client gets these headers."""

    path: str = "/"
    status: int = 200
    pod: str = ""
    method: str = "GET"
    headers: str = ""
    host: str = "echo"
    port: int = 80
    to: str = "echo"
    namespace: str = "default"
    seen: Mapping[str, str | None] = field(default_factory=dict)
    seen_path: str | None = None
    seen_host: str | None = None
    got: Mapping[str, str | None] = field(default_factory=dict)


def v1(path: str = "/", **more: Any) -> Ask:
    return Ask(path, pod="echo-v1", **more)


def v2(path: str = "/", **more: Any) -> Ask:
    return Ask(path, pod="echo-v2", **more)


TO_V1 = [{"name": "echo-v1", "port": 80}]
TO_V2 = [{"name": "echo-v2", "port": 80}]


def http_route(
    *rules: dict[str, Any], name: str = "route", namespace: str = "default", parent: dict[str, Any] | None = None
) -> dict[str, Any]:
    parents = [{"group": "", "kind": "Service", "name": "echo", **(parent or {})}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRefs": parents, "rules": list(rules)},
    }


def path(value: str, kind: str = "PathPrefix") -> dict[str, Any]:
    return {"path": {"type": kind, "value": value}}


def header(name: str, value: str, kind: str = "Exact") -> dict[str, Any]:
    return {"headers": [{"type": kind, "name": name, "value": value}]}


def query(**parameters: str) -> dict[str, Any]:
    return {"queryParams": [{"name": name, "value": value} for name, value in parameters.items()]}


def request_headers(**change: Any) -> dict[str, Any]:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": change}


def response_headers(**change: Any) -> dict[str, Any]:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": change}


def redirect(**change: Any) -> dict[str, Any]:
    return {"type": "RequestRedirect", "requestRedirect": change}


def rewrite(**change: Any) -> dict[str, Any]:
    return {"type": "URLRewrite", "urlRewrite": change}


def full(value: str) -> dict[str, Any]:
    return {"type": "ReplaceFullPath", "replaceFullPath": value}


def prefix(value: str) -> dict[str, Any]:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


def of(**values: str) -> list[dict[str, str]]:
    return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]


MATCHING = http_route(
    {"matches": [path("/"), header("version", "one")], "backendRefs": TO_V1},
    {"matches": [path("/v2"), header("version", "two")], "backendRefs": TO_V2},
)
QUERY = http_route(
    {"matches": [query(animal="whale")], "backendRefs": TO_V1},
    {"matches": [query(animal="dolphin")], "backendRefs": TO_V2},
    {"matches": [{**query(animal="dolphin", color="blue"), **path("/")}], "backendRefs": TO_V1},
    {"matches": [query(ANIMAL="Whale")], "backendRefs": TO_V2},
    {"matches": [path("/path1") | query(animal="whale"), path("/path2") | query(animal="whale")], "backendRefs": TO_V2},
)
HEADERS = http_route(
    {
        "matches": [{"headers": [{"name": "version", "value": "one"}, {"name": "color", "value": "blue"}]}],
        "backendRefs": TO_V1,
    },
    {"matches": [header("version", "two"), header("color", "red")], "backendRefs": TO_V2},
    {"matches": [header("Color", "gre+n", "RegularExpression")], "backendRefs": TO_V1},
)
ORDER = http_route(
    {"matches": [path("/match") | {"method": "GET"}], "backendRefs": TO_V1},
    {"matches": [path("/match/exact", "Exact")], "backendRefs": TO_V2},
    {"matches": [path("/match/exact/deeper")], "backendRefs": TO_V1},
    {"matches": [path("/match/longer")], "backendRefs": TO_V2},
    {"matches": [path("/match") | header("version", "two")], "backendRefs": TO_V2},
    {"matches": [path("/same"), path("/regex/[a-z]+", "RegularExpression")], "backendRefs": TO_V1},
    {"matches": [path("/same")], "backendRefs": TO_V2},
)
METHODS = http_route(
    {"matches": [{"method": "POST"}], "backendRefs": TO_V1},
    {"matches": [{"method": "PATCH"} | path("/patched")], "backendRefs": TO_V2},
    {"matches": [{"method": "GET"} | header("version", "one")], "backendRefs": TO_V1},
)
REQUEST_HEADERS = http_route(
    {"matches": [path("/set")], "filters": [request_headers(set=of(X_Header_Set="set-it"))], "backendRefs": TO_V1},
    {"matches": [path("/add")], "filters": [request_headers(add=of(X_Header_Add="added"))], "backendRefs": TO_V1},
    {"matches": [path("/remove")], "filters": [request_headers(remove=["X-Header-Remove"])], "backendRefs": TO_V1},
    {
        "matches": [path("/all")],
        "filters": [
            request_headers(
                set=of(X_Header_Set_1="one", X_Header_Set_2="two"),
                add=of(X_Header_Add_1="three"),
                remove=["X-Header-Remove-1", "x-HEADER-remove-2"],
            )
        ],
        "backendRefs": TO_V1,
    },
)
REQUEST_HEADER_ASKS = [
    v1("/set", headers="Some: other\r\n", seen={"some": "other", "x-header-set": "set-it"}),
    v1("/set", headers="x-HEADER-set: before\r\n", seen={"x-header-set": "set-it"}),
    v1("/add", seen={"x-header-add": "added"}),
    v1("/add", headers="X-Header-Add: before\r\n", seen={"x-header-add": "before,added"}),
    v1("/remove", headers="X-header-remove: gone\r\n", seen={"x-header-remove": None}),
    v1(
        "/all",
        headers="X-Header-Set-1: a\r\nX-Header-Add-1: b\r\nX-Header-Remove-1: c\r\nX-Header-Remove-2: d\r\nKept: e\r\n",
        seen={
            "x-header-set-1": "one",
            "x-header-set-2": "two",
            "x-header-add-1": "b,three",
            "x-header-remove-1": None,
            "x-header-remove-2": None,
            "kept": "e",
        },
    ),
]


def at_backend(route: dict[str, Any]) -> dict[str, Any]:
    """The same filters, at the backends instead of at the rules."""
    rules = [
        {**{key: value for key, value in rule.items() if key != "filters"}}
        | {"backendRefs": [{**ref, "filters": rule["filters"]} for ref in rule["backendRefs"]]}
        for rule in route["spec"]["rules"]
    ]
    return {**route, "spec": {**route["spec"], "rules": rules}}


RESPONSE_HEADERS = http_route(
    {"matches": [path("/set")], "filters": [response_headers(set=of(X_Header_Set="set-it"))], "backendRefs": TO_V1},
    {"matches": [path("/add")], "filters": [response_headers(add=of(X_Header_Add="added"))], "backendRefs": TO_V1},
    {"matches": [path("/remove")], "filters": [response_headers(remove=["X-Header-Remove"])], "backendRefs": TO_V1},
)
RESPONSE_HEADER_ASKS = [
    v1("/set", got={"x-header-set": "set-it", "x-header-add": "from origin"}),
    v1("/add", got={"x-header-add": "from origin,added"}),
    v1("/remove", got={"x-header-remove": None}),
]

REDIRECTS = http_route(
    {"matches": [path("/hostname")], "filters": [redirect(hostname="example.org")]},
    {"matches": [path("/host-and-status")], "filters": [redirect(hostname="example.org", statusCode=301)]},
    *(
        {"matches": [path(f"/status/{code}")], "filters": [redirect(hostname="example.org", statusCode=code)]}
        for code in (301, 302, 303, 307, 308)
    ),
    {"matches": [path("/port")], "filters": [redirect(port=8083)]},
    {"matches": [path("/https")], "filters": [redirect(scheme="https")]},
    {"matches": [path("/https-port")], "filters": [redirect(scheme="https", port=8443)]},
    {"matches": [path("/full")], "filters": [redirect(path=full("/replaced"))]},
    {"matches": [path("/original")], "filters": [redirect(path=prefix("/replaced"))]},
    {"matches": [path("/all")], "filters": [redirect(hostname="example.org", scheme="https", path=prefix("/a"))]},
)


def sent_to(path: str, location: str, status: int = 302, **more: Any) -> Ask:
    return Ask(path, status, got={"location": location, "content-length": "0"}, **more)


REDIRECT_ASKS = [
    sent_to("/hostname", "http://example.org/hostname"),
    sent_to("/hostname", "http://example.org/hostname", host="echo:8080"),
    sent_to("/hostname", "http://example.org:8080/hostname", port=8080),
    sent_to("/full/a", "http://echo:8080/replaced", port=8080, host="echo:666"),
    sent_to("/host-and-status", "http://example.org/host-and-status", 301),
    *(sent_to(f"/status/{code}", f"http://example.org/status/{code}", code) for code in (301, 302, 303, 307, 308)),
    sent_to("/port", "http://echo:8083/port"),
    sent_to("/https", "https://echo/https"),
    sent_to("/https", "https://echo/https", host="echo:80"),
    sent_to("/https-port", "https://echo:8443/https-port"),
    sent_to("/full/a?b=c", "http://echo/replaced?b=c"),
    sent_to("/original/lemon", "http://echo/replaced/lemon"),
    sent_to("/original", "http://echo/replaced"),
    sent_to("/all/b?c", "https://example.org/a/b?c"),
]
REWRITES = http_route(
    {"matches": [path("/prefix/one")], "filters": [rewrite(path=prefix("/one"))], "backendRefs": TO_V1},
    {"matches": [path("/strip")], "filters": [rewrite(path=prefix("/"))], "backendRefs": TO_V1},
    {"matches": [path("/full/one")], "filters": [rewrite(path=full("/one"))], "backendRefs": TO_V1},
    {"matches": [path("/host")], "filters": [rewrite(hostname="one.example.org")], "backendRefs": TO_V1},
    {
        "matches": [path("/full/headers")],
        "filters": [
            rewrite(path=full("/one")),
            request_headers(set=of(X_Set="1"), add=of(X_Add="2"), remove=["X-Remove"]),
        ],
        "backendRefs": TO_V1,
    },
    {
        "matches": [path("/prefix/headers")],
        "filters": [rewrite(hostname="two.example.org", path=prefix("/two")), request_headers(add=of(X_Add="2"))],
        "backendRefs": TO_V2,
    },
)
REWRITE_ASKS = [
    v1("/prefix/one/two", seen_path="/one/two", seen={"x-envoy-original-path": "/prefix/one/two"}),
    v1("/prefix/one?a=b", seen_path="/one?a=b"),
    v1("/strip/one", seen_path="/one"),
    v1("/strip", seen_path="/"),
    v1("/full/one/two?a=b", seen_path="/one?a=b"),
    v1("/host", seen_path="/host", seen_host="one.example.org", seen={"x-envoy-original-path": None}),
    v1(
        "/full/headers/x",
        headers="X-Remove: gone\r\n",
        seen_path="/one",
        seen={"x-set": "1", "x-add": "2", "x-remove": None},
    ),
    v2("/prefix/headers/x", seen_path="/two/x", seen_host="two.example.org", seen={"x-add": "2"}),
]
CONSUMER = http_route(
    {"filters": [response_headers(set=of(X_From="consumer"))], "backendRefs": [{"name": "echo-v1", "port": 80}]},
    namespace="consumer",
    parent={"namespace": "default"},
)
for _ref in CONSUMER["spec"]["rules"][0]["backendRefs"]:
    _ref["namespace"] = "default"
GRANT = {
    "apiVersion": "gateway.networking.k8s.io/v1beta1",
    "kind": "ReferenceGrant",
    "metadata": {"name": "grant", "namespace": "default"},
    "spec": {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "consumer"}],
        "to": [{"group": "", "kind": "Service"}],
    },
}
FAR_GRANT = {
    **GRANT,
    "metadata": {"name": "grant", "namespace": "other"},
    "spec": {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}],
        "to": [{"group": "", "kind": "Service", "name": "far"}],
    },
}
TO_FAR = [{"name": "far", "namespace": "other", "port": 80}]
CORS_RULE = {
    "filters": [
        {
            "type": "CORS",
            "cors": {
                "allowOrigins": ["https://www.foo.com", "https://*.bar.com"],
                "allowMethods": ["GET", "OPTIONS"],
                "allowHeaders": ["x-header-1", "x-header-2"],
                "exposeHeaders": ["x-header-3"],
                "allowCredentials": True,
                "maxAge": 3600,
            },
        }
    ],
    "backendRefs": TO_V1,
}
PREFLIGHT = "Origin: {}\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-header-1\r\n"


X_AND_AGENT = {"headers": [{"name": "x-header-1", "value": "b"}, {"name": "user-agent", "value": "c"}]}


def preflight_of(asking: str) -> str:
    return PREFLIGHT.format("https://www.foo.com").replace("x-header-1", asking)


def preflight(path: str, *, asking: str = "x-header-1", more: str = "") -> Ask:
    """One that the waypoint answers, and no endpoint."""
    got = {"access-control-allow-origin": "https://www.foo.com"}
    return Ask(path, method="OPTIONS", headers=preflight_of(asking) + more, got=got)


CASES: dict[str, tuple[list[dict[str, Any]], list[Ask]]] = {
    "without a route every request reaches the service": ([], [Ask("/", pod="echo-"), Ask("/any?a=b", pod="echo-")]),
    "a route with one rule sends everything to its backend": (
        [http_route({"backendRefs": TO_V1})],
        [v1("/"), v1("/any"), v1(host="whatever.example.com")],
    ),
    "the service is known by its address, not by Host": (
        [http_route({"backendRefs": TO_V1})],
        [v1(host="echo-v2"), v1(host="echo.default.svc.cluster.local"), v1(host="example.com:1")],
    ),
    "a route to one service does not touch its neighbours": (
        [http_route({"backendRefs": TO_V1})],
        [v2(to="echo-v2"), v1(to="echo-v1")],
    ),
    "a route to one port leaves the others alone": (
        [
            http_route(
                {"filters": [response_headers(set=of(X_Header_Set="v1"))], "backendRefs": TO_V1},
                name="one",
                parent={"port": 80},
            ),
            http_route(
                {"filters": [response_headers(set=of(X_Header_Set="v2"))], "backendRefs": TO_V2},
                name="two",
                parent={"port": 8080},
            ),
        ],
        [v1(got={"x-header-set": "v1"}), v2(port=8080, got={"x-header-set": "v2"})],
    ),
    "a port without a route keeps the default": (
        [
            http_route(
                {"filters": [response_headers(set=of(X_Header_Set="v1"))], "backendRefs": TO_V1}, parent={"port": 80}
            )
        ],
        [v1(got={"x-header-set": "v1"}), Ask(port=8080, pod="echo-", got={"x-header-set": "from origin"})],
    ),
    "a port may be meant by its name": (
        [http_route({"backendRefs": TO_V2}, parent={"sectionName": "http-alt"})],
        [v2(port=8080), Ask(pod="echo-")],
    ),
    "exact paths split traffic": (
        [
            http_route(
                {"matches": [path("/v1", "Exact")], "backendRefs": TO_V1},
                {"matches": [path("/v2", "Exact")], "backendRefs": TO_V2},
            )
        ],
        [v1("/v1"), v2("/v2"), v1("/v1?a=b"), Ask("/v1/", 404), Ask("/V1", 404), Ask("/", 404)],
    ),
    "paths and headers match by segment and by name": (
        [MATCHING],
        [
            v1("/"),
            v1("/example"),
            v1("/", headers="version: one\r\n"),
            v2("/", headers="Version: two\r\n"),
            v2("/v2"),
            v2("/v2/"),
            v2("/v2/example"),
            v1("/v2example"),
            v1("/foo/v2/example"),
        ],
    ),
    "headers match by all of a match, or by another match": (
        [HEADERS],
        [
            v1(headers="Version: one\r\nColor: blue\r\n"),
            Ask(status=404, headers="Version: one\r\n"),
            v2(headers="Version: two\r\n"),
            v2(headers="Color: red\r\n"),
            v2(headers="Version: two\r\nColor: red\r\n"),
            v1(headers="Color: greeeen\r\n"),
            Ask(status=404, headers="Color: greens\r\n"),
            Ask(status=404),
        ],
    ),
    "query parameters match by value, case and number": (
        [QUERY],
        [
            v1("/?animal=whale"),
            v2("/?animal=dolphin"),
            v1("/?animal=dolphin&color=blue"),
            v2("/?ANIMAL=Whale"),
            v1("/?animal=whale&otherparam=irrelevant"),
            v1("/?animal=whale&animal=dolphin"),
            v2("/path1?animal=whale"),
            v2("/path2/x?animal=whale"),
            Ask("/?animal=shark", 404),
            Ask("/", 404),
            Ask("/?color=blue", 404),
        ],
    ),
    "methods match, and count for precedence": (
        [METHODS],
        [
            v1(method="POST"),
            v2("/patched", method="PATCH"),
            v1(headers="version: one\r\n"),
            Ask(status=404),
            Ask(status=404, method="PUT"),
        ],
    ),
    "the more specific match wins, then the first": (
        [ORDER],
        [
            v1("/match"),
            v2("/match/exact"),
            v1("/match/exact/deeper/still"),
            v2("/match/longer/x"),
            v1("/match", headers="version: two\r\n"),
            v2("/match", method="PUT", headers="version: two\r\n"),
            v1("/same"),
            v1("/regex/abc"),
            Ask("/regex/ABC", 404),
            Ask("/regex/abc/d", 404),
        ],
    ),
    "routes of one service are merged by precedence, then by age and name": (
        [
            http_route({"matches": [path("/a")], "backendRefs": TO_V1}, name="z"),
            http_route({"matches": [path("/a")], "backendRefs": TO_V2}, {"backendRefs": TO_V2}, name="y"),
            http_route({"matches": [path("/a/b")], "backendRefs": TO_V1}, name="x"),
        ],
        [v2("/a"), v1("/a/b"), v2("/c")],
    ),
    "named rules work like others": (
        [
            http_route(
                {"name": "named", "matches": [path("/named")], "backendRefs": TO_V1},
                {"matches": [path("/")], "backendRefs": TO_V2},
            )
        ],
        [v1("/named"), v2("/unnamed")],
    ),
    "request headers are set, added and removed": ([REQUEST_HEADERS], REQUEST_HEADER_ASKS),
    "request headers are set, added and removed for one backend": ([at_backend(REQUEST_HEADERS)], REQUEST_HEADER_ASKS),
    "response headers are set, added and removed": ([RESPONSE_HEADERS], RESPONSE_HEADER_ASKS),
    "response headers are set, added and removed for one backend": (
        [at_backend(RESPONSE_HEADERS)],
        RESPONSE_HEADER_ASKS,
    ),
    "redirects": ([REDIRECTS], REDIRECT_ASKS),
    "rewrites of path and host": ([REWRITES], REWRITE_ASKS),
    "rewrites at a backend": (
        [
            http_route(
                {
                    "matches": [path("/old")],
                    "backendRefs": [{"name": "echo-v1", "port": 80, "filters": [rewrite(path=prefix("/new"))]}],
                }
            )
        ],
        [v1("/old/x", seen_path="/new/x")],
    ),
    "a backend that does not exist answers 500": (
        [
            http_route(
                {"matches": [path("/missing")], "backendRefs": [{"name": "missing", "port": 80}]},
                {"matches": [path("/kind")], "backendRefs": [{"name": "b", "kind": "Bucket", "group": "e.x"}]},
                {"matches": [path("/port")], "backendRefs": [{"name": "echo-v1", "port": 1}]},
                {"matches": [path("/weightless")], "backendRefs": [{**TO_V1[0], "weight": 0}]},
                {"matches": [path("/none")]},
                {"matches": [path("/")], "backendRefs": TO_V1},
            )
        ],
        [
            Ask("/missing", 500),
            Ask("/kind", 500),
            Ask("/port", 500),
            Ask("/weightless", 500),
            Ask("/none", 500),
            v1("/else"),
        ],
    ),
    "filters that are not carried out answer 500": (
        [
            http_route(
                {
                    "matches": [path("/extension")],
                    "filters": [{"type": "ExtensionRef", "extensionRef": {"group": "e.x", "kind": "F", "name": "f"}}],
                    "backendRefs": TO_V1,
                },
                {"matches": [path("/")], "backendRefs": TO_V1},
            )
        ],
        [Ask("/extension", 500), v1("/else")],
    ),
    "a backend of another namespace needs no grant in a mesh": (
        [http_route({"backendRefs": TO_FAR})],
        [Ask("/", pod="far-v1")],
    ),
    "a consumer's route holds for clients of its namespace only": (
        [CONSUMER],
        [
            v1(namespace="consumer", got={"x-from": "consumer"}),
            Ask(pod="echo-", got={"x-from": None}),
            Ask(pod="echo-", namespace="stranger", got={"x-from": None}),
        ],
    ),
    "a consumer's route stands in place of the producer's": (
        [CONSUMER, http_route({"backendRefs": TO_V2})],
        [v1(namespace="consumer", got={"x-from": "consumer"}), v2(got={"x-from": None})],
    ),
    "CORS answers preflights of allowed origins and marks responses": (
        [http_route(CORS_RULE)],
        [
            Ask(
                method="OPTIONS",
                headers=PREFLIGHT.format("https://www.foo.com"),
                got={
                    "access-control-allow-origin": "https://www.foo.com",
                    "access-control-allow-methods": "GET, OPTIONS",
                    "access-control-allow-headers": "x-header-1, x-header-2",
                    "access-control-allow-credentials": "true",
                    "access-control-max-age": "3600",
                    "access-control-expose-headers": "x-header-3",
                },
            ),
            Ask(
                method="OPTIONS",
                headers=PREFLIGHT.format("https://www.bar.com"),
                got={"access-control-allow-origin": "https://www.bar.com"},
            ),
            Ask(
                method="OPTIONS",
                headers=PREFLIGHT.format("https://evil.example.com"),
                got={"access-control-allow-origin": None, "access-control-allow-methods": None},
            ),
            v1(method="OPTIONS", headers="Origin: https://www.foo.com\r\n"),
            v1(
                headers="Origin: https://www.foo.com\r\n",
                got={
                    "access-control-allow-origin": "https://www.foo.com",
                    "access-control-allow-credentials": "true",
                    "access-control-expose-headers": "x-header-3",
                },
            ),
            v1(headers="Origin: https://foo.com\r\n", got={"access-control-allow-origin": None}),
            v1(got={"access-control-allow-origin": None}),
        ],
    ),
    "CORS answers the preflights of a method that alone is routed": (
        [
            http_route(
                {**CORS_RULE, "matches": [path("/a") | {"method": "GET"}]},
                {"matches": [path("/")], "backendRefs": TO_V2},
            )
        ],
        [
            Ask(
                "/a",
                method="OPTIONS",
                headers=PREFLIGHT.format("https://www.foo.com"),
                got={"access-control-allow-origin": "https://www.foo.com"},
            ),
            v2("/a", method="OPTIONS", headers=PREFLIGHT.format("https://www.foo.com").replace("GET", "PUT")),
            v2("/a", method="OPTIONS"),
            v1("/a", headers="Origin: https://www.foo.com\r\n"),
        ],
    ),
    "CORS answers the preflights of requests that headers select": (
        [
            http_route(
                {**CORS_RULE, "matches": [path("/a") | {"method": "GET", **header("X-Header-1", "b")}]},
                {**CORS_RULE, "matches": [path("/b") | X_AND_AGENT]},
                {**CORS_RULE, "matches": [path("/c") | {"method": "GET", **header("cookie", "a=b")}]},
                {**CORS_RULE, "matches": [path("/d") | header("x" * 256, "b")]},
                {"matches": [path("/")], "backendRefs": TO_V2},
            )
        ],
        [
            preflight("/a"),
            preflight("/a", asking="x-another, x-header-1, x-more"),
            v2("/a", method="OPTIONS", headers=preflight_of("x-another")),
            v2("/a", method="OPTIONS", headers=preflight_of("my-x-header-1, x-header-10")),
            v2("/a", method="OPTIONS", headers=preflight_of("x-header-1").replace("GET", "PUT")),
            v2("/a", method="OPTIONS", headers="X-Header-1: b\r\n"),
            preflight("/b", more="User-Agent: c\r\n"),
            v2("/b", method="OPTIONS", headers=preflight_of("x-header-1") + "User-Agent: d\r\n"),
            preflight("/c", asking="x-another"),
            preflight("/d", asking="x" * 256),
            v1("/a", headers="Origin: https://www.foo.com\r\nX-Header-1: b\r\n"),
            v2("/a", headers="Origin: https://www.foo.com\r\n"),
        ],
    ),
    "paths are given the form that requests have": (
        [http_route({"matches": [path("/%61", "Exact"), path("/%62/")], "backendRefs": TO_V1}, {"backendRefs": TO_V2})],
        [v1("/a"), v1("/%61"), v1("/b/x"), v2("/c")],
    ),
    "a redirect at a backend answers for that backend": (
        [
            http_route(
                {
                    "matches": [path("/away")],
                    "backendRefs": [{**TO_V1[0], "filters": [redirect(hostname="example.org", path=prefix("/b"))]}],
                },
                {"matches": [path("/")], "backendRefs": TO_V2},
            )
        ],
        [sent_to("/away/a?b=c", "http://example.org/b/a?b=c"), v2("/else")],
    ),
}
GRANTS: dict[str, tuple[list[dict[str, Any]], list[Ask]]] = {
    "a backend of another namespace needs a grant": (
        [http_route({"backendRefs": TO_FAR})],
        [Ask("/", 500)],
    ),
    "a backend of another namespace is used by a grant": (
        [http_route({"backendRefs": TO_FAR}), FAR_GRANT],
        [Ask("/", pod="far-v1")],
    ),
    "a grant for another service is none": (
        [
            http_route({"backendRefs": TO_FAR}),
            {**FAR_GRANT, "spec": {**FAR_GRANT["spec"], "to": [{"group": "", "kind": "Service", "name": "near"}]}},  # type: ignore[dict-item]
        ],
        [Ask("/", 500)],
    ),
    "a consumer needs one, too": (
        [CONSUMER],
        [Ask("/", 500, namespace="consumer"), Ask(pod="echo-")],
    ),
    "a consumer has one": ([CONSUMER, GRANT], [v1(namespace="consumer", got={"x-from": "consumer"})]),
}
"""Where the setting asks for them."""


@pytest.mark.parametrize("name", CASES)
def test_an_http_route(name: str, tmp_path: Path) -> None:
    assert run(_differences(tmp_path, *CASES[name])) == []


@pytest.mark.parametrize("name", GRANTS)
def test_a_route_where_grants_are_asked_for(name: str, tmp_path: Path) -> None:
    settings = Settings(ConfigSettings(requires_reference_grants=True))

    assert run(_differences(tmp_path, *GRANTS[name], settings=settings)) == []


async def _differences(
    folder: Path, objects: list[dict[str, Any]], asks: list[Ask], settings: Settings | None = None
) -> list[str]:
    async with echo_mesh(folder, *objects, settings=settings) as it:
        return [text for ask in asks for text in differences(ask, await _asked(it, ask))]


async def _asked(it: EchoMesh, ask: Ask) -> Answer:
    return await it.ask(
        ask.path,
        method=ask.method,
        headers=ask.headers,
        host=ask.host,
        to=ask.to,
        port=ask.port,
        namespace=ask.namespace,
    )


def differences(ask: Ask, answer: Answer) -> list[str]:
    """`pod` may be a prefix: either of them."""
    expected: list[tuple[str, object, object]] = [("status", ask.status, answer.status)]
    if not (answer.pod.startswith(ask.pod) if ask.pod else answer.pod == ""):
        expected.append(("pod", ask.pod, answer.pod))
    if ask.seen_path is not None:
        expected.append(("path", ask.seen_path, answer.seen.get("path")))
    if ask.seen_host is not None:
        expected.append(("host", ask.seen_host, answer.seen.get("host")))
    expected += [(f"seen {name}", value, answer.seen_headers.get(name)) for name, value in ask.seen.items()]
    expected += [(f"got {name}", value, answer.headers.get(name)) for name, value in ask.got.items()]
    return [f"{ask}: {what} is {is_!r}, not {wanted!r}" for what, wanted, is_ in expected if is_ != wanted]


@pytest.mark.parametrize(("heavy", "light"), [(70, 30), (90, 10)])
def test_weights_split_requests(tmp_path: Path, heavy: int, light: int) -> None:
    route = http_route({"backendRefs": [{**TO_V1[0], "weight": heavy}, {**TO_V2[0], "weight": light}]})

    async def scenario() -> int:
        async with echo_mesh(tmp_path, route) as it:
            answers = [await it.ask() for _ in range(400)]
        return sum(answer.pod == "echo-v1" for answer in answers)

    share = run(scenario()) / 400 * 100
    assert abs(share - heavy) < 4.5 * (heavy * light / 400) ** 0.5  # one run in 150,000 is further off


def test_a_route_is_not_applied_to_clients_that_call_the_pod_itself(tmp_path: Path) -> None:
    route = http_route({"filters": [response_headers(set=of(X_Header_Set="routed"))], "backendRefs": TO_V1})

    async def scenario() -> None:
        async with echo_mesh(tmp_path, route) as it:
            routed = await it.ask()
            direct = await it.ask_pod("echo-v1")

        assert routed.headers["x-header-set"] == "routed"
        assert (direct.pod, direct.headers["x-header-set"]) == ("echo-v1", "from origin")

    run(scenario())
