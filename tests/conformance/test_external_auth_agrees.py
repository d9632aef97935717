"""The same answers of the same authorizers, to our waypoint and to Envoy as istiod configures it.

The test compares the application's request and the client's response. One difference is accepted: a header for an
allowed client is added to the application's own header in Envoy, and replaces it here, as Istio documents.
"""

import asyncio
import re
from pathlib import Path

import pytest

from tests.kit import envoy
from tests.kit.aio import run
from tests.kit.authorizer import grpc_authorizer
from tests.kit.mesh import address, settled
from tests.kit.origin import Origin, answering, origin
from tests.waypoint.filters.test_external_auth import OVER_GRPC, OVER_HTTP, Custom, value_of
from waypoint._proto.external_auth_pb2 import CheckResponse

pytestmark = pytest.mark.envoy
ASKED = "X-User: root\r\nX-Team: red\r\nAuthorization: Basic a\r\nCookie: a=b\r\n"
OURS = (
    "pathPrefix: /check, includeRequestHeadersInCheck: [cookie], includeAdditionalHeadersInCheck: {X-From: mesh}, "
    "headersToUpstreamOnAllow: [x-user, 'x-ext-*'], headersToDownstreamOnAllow: [x-seen, set-cookie], "
    "headersToDownstreamOnDeny: [x-why]"
)
THEIRS = {
    "path_prefix": "/check",
    "allowed_headers": {"patterns": [{"exact": "cookie"}, {"exact": "authorization"}]},
    "authorization_request": {"headers_to_add": [{"key": "x-from", "value": "mesh"}]},
    "authorization_response": {
        "allowed_upstream_headers": {"patterns": [{"exact": "x-user"}, {"prefix": "x-ext-"}]},
        "allowed_client_headers": {"patterns": [{"exact": "x-why"}]},
        "allowed_client_headers_on_success": {"patterns": [{"exact": "x-seen"}, {"exact": "set-cookie"}]},
    },
}
HTTP_CASES = {
    "allowed": ("200 OK", ""),
    "with headers for the application": ("200 OK", "X-User: jason\r\nX-Ext-A: 1\r\nX-Other: 2\r\n"),
    "with headers for the client": ("200 OK", "X-Seen: yes\r\nSet-Cookie: a=1\r\nX-Other: 2\r\n"),
    "with headers to remove": ("200 OK", "X-Envoy-Auth-Headers-To-Remove: cookie, x-team\r\n"),
    "another success": ("201 Created", ""),
    "a redirect": ("302 Found", "Location: https://login\r\nX-Why: a\r\n"),
    "a challenge": ("401 Unauthorized", "WWW-Authenticate: Basic\r\nX-Why: b\r\nX-Other: 2\r\n"),
    "a refusal": ("403 Forbidden", ""),
    "too much": ("429 Too Many Requests", "Retry-After: 5\r\n"),
    "an error": ("500 Internal Server Error", "X-Why: c\r\n"),
    "unavailable": ("503 Service Unavailable", ""),
}
_SEEN = ("x-", "authorization", "cookie", "set-cookie", "location", "www-authenticate", "retry-after", "host")
_OWN = ("x-envoy", "x-request-id", "x-forwarded", "x-b3")


def shown(message: bytes) -> tuple[list[str], dict[str, str], str]:
    """First line, the headers that matter, and body. Values of one name are joined, parameters sorted."""
    head, _, body = message.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    fields: dict[str, str] = {}
    for name, _, value in (line.partition(": ") for line in lines):
        name = name.lower()
        if name.startswith(_SEEN) and not name.startswith(_OWN):
            fields[name] = f"{fields[name]},{value}" if name in fields else value
    return sorted(re.split("[?& ]", first)), fields, body


async def through(at: envoy.Address) -> bytes:
    reader, writer = await asyncio.open_connection(*at)
    writer.write(f"GET /a?b=c&d=e HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{ASKED}\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


def told(seen: Origin) -> list[tuple[list[str], dict[str, str], str]]:
    return [shown(head) for head in seen.heads]


@pytest.mark.parametrize("name", HTTP_CASES)
def test_over_http(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        status, headers = HTTP_CASES[name]
        at = Custom(OVER_HTTP, OURS, rule="{}")
        listen = address(), 8080
        config = envoy.with_authorizer(
            listen=listen, to=(at.pod, 9080), authorizer=(at.authorizer, 9080), is_grpc=False, **THEIRS
        )
        authorizer = answering(b"no", status=status, headers=headers)
        async with (
            origin(at.pod, answering()) as seen,
            origin(at.authorizer, authorizer) as asked,
        ):
            with envoy.run(config, ready=listen):
                theirs = shown(await through(listen)), told(seen), told(asked)
            await settled(lambda: (seen.closed, asked.closed) == (seen.connections, asked.connections))
            seen.heads.clear()
            asked.heads.clear()
            async with at.mesh(tmp_path) as it:
                ours = shown(await it.get(at.authority, "/a?b=c&d=e", ASKED)), told(seen), told(asked)

        assert ours == theirs

    run(scenario())


def _ok(build: str) -> CheckResponse:
    response = CheckResponse()
    ok = response.ok_response
    match build:
        case "set":
            ok.headers.add().header.MergeFrom(value_of("X-User", "jason"))
        case "append":
            added = ok.headers.add()
            added.header.MergeFrom(value_of("X-Team", "blue"))
            added.append.value = True
        case "remove":
            ok.headers_to_remove.extend(["cookie", "Host", ":path"])
        case "client":
            ok.response_headers_to_add.add().header.MergeFrom(value_of("X-Seen", "yes"))
        case "query":
            ok.query_parameters_to_set.add(key="who", value="jason")
            ok.query_parameters_to_set.add(key="b", value="x")
            ok.query_parameters_to_remove.append("d")
        case "denied":
            response.status.code = 7
        case "redirected":
            response.status.code = 16
            response.denied_response.status.code = 302
            response.denied_response.headers.add().header.MergeFrom(value_of("Location", "https://login"))
            response.denied_response.body = b"log in"
    return response


@pytest.mark.parametrize("build", ["", "set", "append", "remove", "client", "query", "denied", "redirected"])
def test_over_grpc(tmp_path: Path, build: str) -> None:
    async def scenario() -> None:
        at = Custom(OVER_GRPC, rule="{}")
        listen = address(), 8080
        config = envoy.with_authorizer(listen=listen, to=(at.pod, 9080), authorizer=(at.authorizer, 9000), is_grpc=True)
        async with origin(at.pod, answering()) as seen:
            with grpc_authorizer(at.authorizer, lambda request: _ok(build)) as authorizer:
                with envoy.run(config, ready=listen):
                    theirs = shown(await through(listen)), told(seen)
                await settled(lambda: seen.closed == seen.connections)
                seen.heads.clear()
                async with at.mesh(tmp_path) as it:
                    ours = shown(await it.get(at.authority, "/a?b=c&d=e", ASKED)), told(seen)
                first, second = (it.attributes.request.http for it in authorizer.requests)

        assert ours == theirs
        assert (first.method, first.path, first.host, first.scheme) == (
            second.method,
            second.path,
            second.host,
            second.scheme,
        )
        assert (first.size, first.protocol) == (second.size, second.protocol)
        names = [name for name in first.headers if not name.startswith(_OWN)]
        assert {name: first.headers[name] for name in names} == {name: second.headers.get(name) for name in names}

    run(scenario())
