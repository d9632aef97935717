"""VirtualServices, through real tunnels: rules, and requests with their expected results."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.test_http_route import Ask, _asked, differences, http_route, v1, v2
from tests.kit.aio import run
from tests.kit.echo import echo_mesh
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, status

TO_V1 = [{"destination": {"host": "echo-v1"}}]
TO_V2 = [{"destination": {"host": "echo-v2"}}]
CLIENT = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "client", "namespace": "default", "labels": {"app": "client"}},
    "spec": {"serviceAccountName": "client"},
    "status": {"podIP": "127.0.0.1"},
}
SUBSETS = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "echo", "namespace": "default"},
    "spec": {"host": "echo", "subsets": [{"name": it, "labels": {"version": it}} for it in ("v1", "v2")]},
}


def virtual_service(*http: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "echo", "namespace": "default"},
        "spec": {"hosts": ["echo"], "http": list(http)},
    }


def when(*matches: dict[str, Any], **rule: Any) -> dict[str, Any]:
    """A rule that leads to v2 unless it says something else."""
    answers = {"redirect", "directResponse", "route"} & rule.keys()
    return {"match": list(matches), **rule, **({} if answers else {"route": TO_V2})}


def uri(**match: str) -> dict[str, Any]:
    return {"uri": match}


ELSE = {"route": TO_V1}
NOT_FOUND = {"status": 404}

CASES: dict[str, tuple[list[dict[str, Any]], list[Ask]]] = {
    "the first rule that matches wins, however special others are": (
        [when(uri(prefix="/a")), {"match": [uri(exact="/a/b")], "route": TO_V1}],
        [v2("/a/b"), v2("/a"), v2("/ab"), Ask("/b", **NOT_FOUND)],
    ),
    "a prefix is one of characters": (
        [when(uri(prefix="/v2")), ELSE],
        [v2("/v2"), v2("/v20"), v2("/v2/x"), v1("/v1"), v1("/V2")],
    ),
    "case may be ignored": (
        [when({**uri(prefix="/Api"), "ignoreUriCase": True}), when({**uri(exact="/X"), "ignoreUriCase": True}), ELSE],
        [v2("/api/x"), v2("/API"), v2("/x"), v1("/xy")],
    ),
    "an expression must match the whole path": (
        [when(uri(regex="/v[0-9]+")), ELSE],
        [v2("/v12"), v1("/v12/x"), v2("/v1?x=y")],
    ),
    "values of headers tell of the request, before it is changed": (
        [
            {
                "headers": {
                    "request": {"set": {"x-who": "%DOWNSTREAM_PEER_URI_SAN%", "x-a": "new"}},
                    "response": {"add": {"x-path": "%REQ(:path)%"}},
                },
                "route": [
                    {
                        "destination": {"host": "echo-v1"},
                        "headers": {"request": {"add": {"x-was": "%REQ(x-a)%"}}},
                    }
                ],
            }
        ],
        [
            v1(
                "/a?b",
                headers="X-A: old\r\n",
                seen={"x-who": "spiffe://cluster.local/ns/default/sa/client", "x-a": "new", "x-was": "old"},
                got={"x-path": "/a?b"},
            )
        ],
    ),
    "a value that tells what nobody knows costs its rule alone": (
        [
            when(uri(prefix="/a"), headers={"request": {"set": {"x-a": "%UPSTREAM_HOST%"}}}),
            ELSE,
        ],
        [Ask("/a", 500), v1("/b")],
    ),
    "a path and an authority are headers of HTTP/2, to match and to set": (
        [
            when({"headers": {":path": {"exact": "/a?b"}}}, headers={"request": {"set": {":authority": "other"}}}),
            ELSE,
        ],
        [v2("/a?b", seen_host="other"), v1("/a", seen_host="echo")],
    ),
    "what is missing is empty for an expression": (
        [
            when({"withoutHeaders": {"x-a": {"regex": "b.*"}}}),
            when({"withoutHeaders": {"x-a": {"regex": ".*"}}}),
            ELSE,
        ],
        [v2(), v1(headers="X-A: b\r\n"), v2(headers="X-A: c\r\n")],
    ),
    "paths are given the form that requests have": (
        [
            when(uri(exact="/a%2fb"), uri(exact="/%61/x"), uri(prefix="/b/../c"), rewrite={"uri": "/new"}),
            ELSE,
        ],
        [
            v2("/a%2fb", seen_path="/new"),
            v1("/a%2Fb", seen_path="/a%2Fb"),
            v2("/a/x", seen_path="/new"),
            v2("/c/x", seen_path="/new/x"),
        ],
    ),
    "a query in a redirect replaces the request's, and the port is the service's": (
        [
            {"match": [uri(prefix="/a")], "redirect": {"uri": "/new?x=y"}},
            {"match": [uri(prefix="/b")], "redirect": {"uri": "/new", "derivePort": "FROM_REQUEST_PORT"}},
            {"match": [uri(prefix="/c")], "rewrite": {"uri": "/new?x=y"}, "route": TO_V1},
        ],
        [
            Ask("/a?b=c", 301, got={"location": "http://echo/new?x=y"}),
            Ask("/b?b=c", 301, port=8080, host="evil:666", got={"location": "http://evil:8080/new?b=c"}),
            v1("/c", seen_path="/new?x=y"),
            v1("/c?b=c", seen_path="/new?x=y&b=c"),
        ],
    ),
    "headers, and headers that must not be there": (
        [
            when({"headers": {"end-user": {"exact": "jason"}}, "withoutHeaders": {"x-bot": {}}}),
            when({"headers": {"x-any": {}}}),
            ELSE,
        ],
        [
            v2(headers="End-User: jason\r\n"),
            v1(headers="End-User: jason\r\nX-Bot: 1\r\n"),
            v1(headers="End-User: eve\r\n"),
            v2(headers="X-Any: thing\r\n"),
        ],
    ),
    "without a header of a certain value": (
        [when({"withoutHeaders": {"x-kind": {"exact": "old"}}}), ELSE],
        [v2(), v2(headers="X-Kind: new\r\n"), v1(headers="X-Kind: old\r\n")],
    ),
    "method, authority and query": (
        [
            when({"method": {"regex": "PUT|POST"}}),
            when({"authority": {"prefix": "other"}}),
            when({"queryParams": {"debug": {"exact": "1"}}}),
            ELSE,
        ],
        [v2(method="POST"), v1(method="GET"), v2(host="other.example"), v2("/?debug=1"), v1("/?debug=2")],
    ),
    "fields of one match must all hold, one of several matches is enough": (
        [when({**uri(prefix="/a"), "method": {"exact": "GET"}}, uri(prefix="/b")), ELSE],
        [v2("/a"), v1("/a", method="PUT"), v2("/b", method="PUT")],
    ),
    "the port that was called": (
        [when({"port": 8080}), ELSE],
        [v2(port=8080), v1(port=80)],
    ),
    "the namespace of the client": (
        [when({"sourceNamespace": "other"}), ELSE],
        [v2(namespace="other"), v1()],
    ),
    "labels of the client's workload": (
        [
            {"match": [{"sourceLabels": {"app": "nobody"}}], "route": TO_V1},
            when({"sourceLabels": {"app": "client"}}),
            ELSE,
        ],
        [v2()],
    ),
    "subsets": (
        [
            {"match": [uri(prefix="/2")], "route": [{"destination": {"host": "echo", "subset": "v2"}}]},
            {"match": [uri(prefix="/9")], "route": [{"destination": {"host": "echo", "subset": "v9"}}]},
            {"route": [{"destination": {"host": "echo.default.svc.cluster.local", "subset": "v1"}}]},
        ],
        [v2("/2"), Ask("/9", status=503), v1("/")],
    ),
    "a destination that isn't there": ([{"route": [{"destination": {"host": "nowhere"}}]}], [Ask(status=503)]),
    "a prefix is rewritten as it stands, a path whole": (
        [
            when(uri(prefix="/a/"), rewrite={"uri": "/"}),
            when(uri(prefix="/b"), rewrite={"uri": "/c"}),
            when(uri(exact="/d"), rewrite={"uri": "/e", "authority": "inside"}),
            when({}, rewrite={"uriRegexRewrite": {"match": "^/v([0-9])/(.*)", "rewrite": r"/\2/\1"}}),
        ],
        [
            v2("/a/x?y=z", seen_path="/x?y=z"),
            v2("/bc", seen_path="/cc"),
            v2("/d", seen_path="/e", seen_host="inside"),
            v2("/v1/x", seen_path="/x/1"),
            v2("/other", seen_path="/other"),
        ],
    ),
    "headers are changed by the rule and by the destination": (
        [
            {
                "headers": {"request": {"set": {"x-a": "1"}, "remove": ["x-b"]}, "response": {"add": {"x-r": "2"}}},
                "route": [{"destination": {"host": "echo-v1"}, "headers": {"request": {"add": {"x-c": "3"}}}}],
            }
        ],
        [v1(headers="X-A: 0\r\nX-B: 0\r\n", seen={"x-a": "1", "x-b": None, "x-c": "3"}, got={"x-r": "2"})],
    ),
    "redirects": (
        [
            {"match": [uri(prefix="/a")], "redirect": {"uri": "/b", "redirectCode": 307}},
            {"match": [uri(prefix="/c")], "redirect": {"authority": "example.com", "scheme": "https"}},
            {"match": [uri(prefix="/d")], "redirect": {"authority": "example.com:8443"}},
            {"match": [uri(prefix="/old/")], "redirect": {"prefixRewrite": "/new/"}},
            {"redirect": {"uri": "/root"}},
        ],
        [
            Ask("/a/x?q=1", status=307, got={"location": "http://echo/b?q=1"}),
            Ask("/c", status=301, got={"location": "https://example.com/c"}),
            Ask("/old/x?q=1", status=301, got={"location": "http://echo/new/x?q=1"}),
            Ask("/d", status=301, host="echo:80", got={"location": "http://example.com:8443/d"}),
            Ask("/", status=301, host="echo:8080", got={"location": "http://echo:8080/root"}),
        ],
    ),
    "direct responses": (
        [{"directResponse": {"status": 418, "body": {"string": "short and stout"}}}],
        [Ask(status=418, got={"content-type": "text/plain", "content-length": "15"})],
    ),
    "an abort for everybody": (
        [{"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 100}}}, "route": TO_V1}],
        [Ask(status=500)],
    ),
    "an abort without a percentage is for nobody": (
        [{"fault": {"abort": {"httpStatus": 500}}, "route": TO_V1}],
        [v1()],
    ),
    "pages that may read": (
        [
            {
                "corsPolicy": {"allowOrigins": [{"regex": "https://.*[.]example"}], "allowMethods": ["GET"]},
                "route": TO_V1,
            }
        ],
        [
            v1(headers="Origin: https://a.example\r\n", got={"access-control-allow-origin": "https://a.example"}),
            v1(headers="Origin: https://a.evil\r\n", got={"access-control-allow-origin": None}),
            Ask(
                method="OPTIONS",
                headers="Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n",
                got={"access-control-allow-methods": "GET", "access-control-max-age": None},
            ),
            v1(method="OPTIONS", headers="Origin: https://a.evil\r\nAccess-Control-Request-Method: GET\r\n"),
        ],
    ),
    "preflights of other pages may be kept from the endpoint": (
        [
            {
                "corsPolicy": {"allowOrigins": [{"exact": "https://a.example"}], "unmatchedPreflights": "IGNORE"},
                "route": TO_V1,
            }
        ],
        [
            Ask(
                method="OPTIONS",
                headers="Origin: https://a.evil\r\nAccess-Control-Request-Method: GET\r\n",
                got={"access-control-allow-origin": None},
            )
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_virtual_service(name: str, tmp_path: Path) -> None:
    rules, asks = CASES[name]

    async def scenario() -> list[str]:
        async with echo_mesh(tmp_path, virtual_service(*rules), SUBSETS, CLIENT) as it:
            return [line for ask in asks for line in differences(ask, await _asked(it, ask))]

    assert run(scenario()) == []


def test_weights_split_requests(tmp_path: Path) -> None:
    route = [{"destination": {"host": "echo-v1"}, "weight": 80}, {"destination": {"host": "echo-v2"}, "weight": 20}]

    async def scenario() -> Counter[str]:
        async with echo_mesh(tmp_path, virtual_service({"route": route})) as it:
            return Counter([(await it.ask()).pod for _ in range(200)])

    counts = run(scenario())
    assert 130 <= counts["echo-v1"] <= 190  # five standard deviations of 160
    assert counts.total() == 200


def test_a_timeout_and_a_mirror(tmp_path: Path) -> None:
    rules = [
        {"match": [uri(prefix="/slow")], "timeout": "100ms", "route": TO_V2},
        {"mirrors": [{"destination": {"host": "echo-v2"}}], "route": TO_V1},
    ]

    async def scenario() -> None:
        async with echo_mesh(tmp_path, virtual_service(*rules)) as it:
            it.stuck.add("echo-v2")
            late = await it.ask("/slow")
            mirrored = await it.ask("/copy")

            assert (late.status, mirrored.pod) == (504, "echo-v1")
            await settled(lambda: any(b"GET /copy" in head for head in it.origins["echo-v2"].heads))

    run(scenario())


def test_retries_as_often_as_it_says(tmp_path: Path) -> None:
    rule = {"retries": {"attempts": 3, "retryOn": "503", "backoff": "1ms"}, "route": [{"destination": {"host": "app"}}]}
    text = yaml.dump({**virtual_service(rule), "spec": {"hosts": ["app"], "http": [rule]}})

    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering(status="503 Later")) as seen, at.mesh(tmp_path, text) as it:
            answer = await it.get(at.authority)

            assert status(answer) == 503
            assert len(seen.heads) == 4

    run(scenario())


def test_routes_of_the_gateway_api_count_before(tmp_path: Path) -> None:
    route = http_route({"backendRefs": [{"name": "echo-v2", "port": 80}]})

    async def scenario() -> str:
        async with echo_mesh(tmp_path, virtual_service(ELSE), route) as it:
            return (await it.ask()).pod

    assert run(scenario()) == "echo-v2"
