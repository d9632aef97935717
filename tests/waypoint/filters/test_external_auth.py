"""External authorization over HTTP and gRPC: through real tunnels, with real authorizers."""

import asyncio
from pathlib import Path

import grpc
import pytest

from policies.attributes import Peer, RequestHead
from policies.authorizer import Authorizer
from policies.claims import Claims
from tests.kit.aio import run
from tests.kit.authorizer import grpc_authorizer
from tests.kit.mesh import Mesh, address, settled
from tests.kit.origin import Handler, answering, hang, origin, raw, reply, reset, scripted
from tests.kit.snapshots import compiled, documents_of
from tests.waypoint.test_exchange import Setting, body, status
from tests.waypoint.test_grpc import _setting as grpc_setting
from waypoint._proto.external_auth_pb2 import CheckRequest, CheckResponse, HeaderValue
from waypoint.admission.decide import decide
from waypoint.filters.external_auth import ExternalAuthorization, first_question

AUTHORIZER = """
apiVersion: v1
kind: Service
metadata: {{name: authorizer}}
spec:
  clusterIP: {vip}
  ports: [{{name: http, port: 9080}}, {{name: grpc, port: 9000}}]
  selector: {{app: authorizer}}
---
apiVersion: v1
kind: Pod
metadata:
  name: authorizer
  labels: {{app: authorizer}}
  annotations: {{{annotations}}}
spec: {{serviceAccountName: app, nodeName: node}}
status: {{podIP: {ip}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: app}}
spec:
  parentRefs: [{{group: "", kind: Service, name: app}}]
  rules:
    - filters: [{{type: ExternalAuth, externalAuth: {auth}}}{filters}]
      backendRefs: [{{name: app, port: 9080}}]
"""
HTTP = "{protocol: HTTP, backendRef: {name: authorizer, port: 9080}, http: {%s}, forwardBody: {maxSize: %d}}"
GRPC = "{protocol: GRPC, backendRef: {name: authorizer, port: 9000}, grpc: {%s}, forwardBody: {maxSize: %d}}"


def value_of(key: str, value: str) -> HeaderValue:
    return HeaderValue(key=key, value=value)


class Asking(Setting):
    """A service whose requests an authorizer allows."""

    def __init__(self, auth: str, filters: str = "", *, is_in_mesh: bool = False, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.authorizer = address()
        self.more = AUTHORIZER.format(
            vip=address(),
            ip=self.authorizer,
            auth=auth,
            filters=filters,
            annotations="ambient.istio.io/redirection: enabled" if is_in_mesh else "",
        )

    def manifests(self, more: str = "") -> str:
        return super().manifests(f"{self.more}\n---\n{more}" if more else self.more)


def http(fields: str = "path: /check", size: int = 0) -> str:
    return HTTP % (fields, size)


def grpc_auth(fields: str = "", size: int = 0) -> str:
    return GRPC % (fields, size)


async def post(it: Mesh, authority: str, head: str, *parts: bytes) -> bytes:
    """The answer to a request whose body comes in parts."""
    reader, writer = await it.tunnel(authority)
    writer.write(f"POST /pay HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{head}\r\n".encode())
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("is_in_mesh", [False, True])
def test_over_http_the_request_is_asked_about_below_a_path(tmp_path: Path, is_in_mesh: bool) -> None:
    async def scenario() -> None:
        at = Asking(http("path: /check, allowedHeaders: [X-Team]"), is_in_mesh=is_in_mesh)
        sent = "Authorization: Basic a\r\nX-Team: red\r\nX-Secret: b\r\n"
        allow = answering(b"", headers="X-User: jason\r\nContent-Type: a/b\r\n")
        async with origin(at.pod, answering()) as seen, origin(at.authorizer, allow) as asked, at.mesh(tmp_path) as it:
            answer = await it.get(at.authority, "/a?b=c", sent)

        assert status(answer) == 200
        assert b"\r\nx-user: jason\r\n" in seen.heads[0]
        assert b"content-type" not in seen.heads[0]
        assert b"\r\nx-secret: b\r\n" in seen.heads[0]
        head = asked.heads[0]
        assert head.startswith(b"GET /check/a?b=c HTTP/1.1\r\nhost: app\r\n")
        assert b"\r\nauthorization: Basic a\r\n" in head
        assert b"\r\nx-team: red\r\n" in head
        assert b"\r\ncontent-length: 0\r\n" in head
        assert b"x-secret" not in head

    run(scenario())


def test_a_denial_over_http_is_the_answer_of_the_authorizer(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Asking(http())
        denial = answering(
            b"who are you?", status="401 Unauthorized", headers="WWW-Authenticate: Basic\r\nServer: a\r\n"
        )
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it, origin(at.authorizer, denial):
            answer = await it.get(at.authority)
            await settled(lambda: " 401 UAEX ext_authz_denied" in it.access_log)
            text = it.metrics.render("")[0].decode()

        assert status(answer) == 401
        assert body(answer) == b"who are you?"
        assert b"\r\nwww-authenticate: Basic\r\n" in answer
        assert answer.count(b"\r\nserver: ") == 1
        assert not seen.heads
        assert 'pywaypoint_external_auth_total{provider="HTTPRoute/default/app",outcome="denied"} 1' in text

    run(scenario())


@pytest.mark.parametrize(
    "broken",
    [
        scripted(reply("503 Service Unavailable")),
        scripted(hang),
        scripted(reset()),
        scripted(raw(b"HTTP/1.1 200 OK\r\nX-User: a\nb\r\nContent-Length: 0\r\n\r\n")),
        scripted(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        answering(bytes(1 << 17)),
    ],
    ids=["5xx", "slow", "reset", "bare LF", "two lengths", "endless"],
)
def test_an_authorizer_that_gives_no_answer_denies(tmp_path: Path, broken: Handler) -> None:
    async def scenario() -> None:
        at = Asking(http(), external_auth_seconds=0.3)
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it, origin(at.authorizer, broken):
            answer = await it.get(at.authority)
            await settled(lambda: " 403 UAEX ext_authz_error" in it.access_log)

        assert status(answer) == 403
        assert body(answer) == b""
        assert not seen.heads

    run(scenario())


def test_an_authorizer_that_is_absent_denies(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Asking(http())
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            refused = await it.get(at.authority)
            it.apply(at.manifests().replace("name: authorizer, port: 9080", "name: nobody, port: 9080"))
            unknown = await it.get(at.authority)

        assert (status(refused), status(unknown)) == (403, 403)
        assert not seen.heads

    run(scenario())


def test_over_grpc_the_authorizer_learns_who_asks_for_what(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Asking(grpc_auth())
        async with origin(at.pod, answering()), at.mesh(tmp_path) as it:
            with grpc_authorizer(at.authorizer) as authorizer:
                answer = await it.get(at.authority, "/a?b=c", "X-Team: red\r\nX-Team: blue\r\nX-Request-Id: 1\r\n")

        assert status(answer) == 200
        attributes = authorizer.requests[0].attributes
        assert attributes.source.principal == "spiffe://cluster.local/ns/default/sa/client"
        assert attributes.destination.address.socket_address.address == at.vip
        assert attributes.destination.address.socket_address.port_value == 9080
        request = attributes.request.http
        assert (request.id, request.method, request.path, request.host) == ("1", "GET", "/a?b=c", "app")
        assert (request.scheme, request.protocol, request.size) == ("http", "HTTP/1.1", 0)
        assert request.headers["x-team"] == "red,blue"
        assert request.headers[":path"] == "/a?b=c"

    run(scenario())


def test_over_grpc_an_answer_edits_request_and_response(tmp_path: Path) -> None:
    def answer(request: CheckRequest) -> CheckResponse:
        response = CheckResponse()
        ok = response.ok_response
        ok.headers.add().header.MergeFrom(value_of("X-User", "jason"))
        added = ok.headers.add()
        added.header.MergeFrom(value_of("X-Team", "blue"))
        added.append.value = True
        for name in ("Host", ":path", "Content-Length", "Transfer-Encoding", "X-Forwarded-Client-Cert"):
            ok.headers.add().header.MergeFrom(value_of(name, "5"))
        ok.headers_to_remove.extend(["Authorization", "Host", ":path"])
        ok.response_headers_to_add.add().header.MergeFrom(value_of("X-Checked", "yes"))
        ok.response_headers_to_add.add().header.MergeFrom(value_of("Set-Cookie", "checked=1"))
        ok.query_parameters_to_set.add(key="who", value="a b")
        ok.query_parameters_to_remove.append("token")
        return response

    async def scenario() -> None:
        at = Asking(grpc_auth())
        sent = "Authorization: Basic a\r\nX-User: root\r\nX-Team: red\r\n"
        async with origin(at.pod, answering(headers="Set-Cookie: own=1\r\n")) as seen, at.mesh(tmp_path) as it:
            with grpc_authorizer(at.authorizer, answer):
                answered = await it.get(at.authority, "/a?token=x&b=c", sent)

        assert b"set-cookie: own=1\r\n" in answered
        assert b"set-cookie: checked=1\r\n" in answered
        head = seen.heads[0]
        assert b"\r\nx-checked: yes\r\n" in answered
        assert head.startswith(b"GET /a?b=c&who=a%20b HTTP/1.1\r\nhost: app\r\n")
        assert b"\r\nx-user: jason\r\n" in head
        assert b"root" not in head
        assert [line for line in head.split(b"\r\n") if line.startswith(b"x-team")] == [b"x-team: red", b"x-team: blue"]
        for name in (b"authorization", b"content-length", b"transfer-encoding", b"x-forwarded-client-cert"):
            assert name not in head

    run(scenario())


def test_over_grpc_a_denial_has_its_own_status_headers_and_body(tmp_path: Path) -> None:
    def deny(request: CheckRequest) -> CheckResponse:
        response = CheckResponse()
        response.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
        response.denied_response.status.code = 302
        response.denied_response.headers.add().header.MergeFrom(value_of("Location", "https://login"))
        response.denied_response.headers.add().header.MergeFrom(value_of("Content-Type", "text/html"))
        response.denied_response.body = b"<p>log in</p>"
        return response

    async def scenario() -> None:
        at = Asking(grpc_auth())
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            with grpc_authorizer(at.authorizer, deny):
                answer = await it.get(at.authority)

        assert status(answer) == 302
        assert body(answer) == b"<p>log in</p>"
        assert b"\r\nlocation: https://login\r\n" in answer
        assert answer.count(b"content-type: ") == 1
        assert not seen.heads

    run(scenario())


def test_an_answer_that_splits_a_header_denies(tmp_path: Path) -> None:
    def split(request: CheckRequest) -> CheckResponse:
        response = CheckResponse()
        response.ok_response.headers.add().header.MergeFrom(value_of("X-User", "a\r\nX-Admin: yes"))
        return response

    async def scenario() -> None:
        at = Asking(grpc_auth())
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            with grpc_authorizer(at.authorizer, split):
                answer = await it.get(at.authority)

        assert status(answer) == 403
        assert not seen.heads

    run(scenario())


def test_over_grpc_a_failing_or_slow_authorizer_denies(tmp_path: Path) -> None:
    def fail(request: CheckRequest) -> CheckResponse:
        raise RuntimeError("told to fail")

    async def scenario() -> None:
        at = Asking(grpc_auth(), external_auth_seconds=0.5)
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            with grpc_authorizer(at.authorizer, fail) as authorizer:
                failed = await it.get(at.authority)
                authorizer.delay_seconds = 60.0
                slow = await it.get(at.authority)

        assert (status(failed), status(slow)) == (403, 403)
        assert not seen.heads

    run(scenario())


@pytest.mark.parametrize(
    ("head", "parts", "told"),
    [
        ("Content-Length: 5\r\n", [b"he", b"llo"], b"hello"),
        ("Content-Length: 10\r\n", [b"hello", b"world"], b"hellow"),
        ("Transfer-Encoding: chunked\r\n", [b"5\r\nhello\r\n", b"0\r\n\r\n"], b"hello"),
        ("Content-Length: 5\r\nExpect: 100-continue\r\n", [b"hello"], b"hello"),
    ],
    ids=["whole", "part", "chunked", "expected"],
)
def test_the_authorizer_is_told_the_body_up_to_a_bound(
    tmp_path: Path, head: str, parts: list[bytes], told: bytes
) -> None:
    async def scenario() -> None:
        at = Asking(http("", 6))
        allow = answering(b"")
        async with (
            origin(at.pod, scripted(reply(body=b"paid"), hang)),
            origin(at.authorizer, allow) as asked,
            at.mesh(tmp_path) as it,
        ):
            answer = await post(it, at.authority, head, *parts)

        assert body(answer).endswith(b"paid")
        assert asked.bodies == [told]

    run(scenario())


def test_a_preflight_that_cors_answers_is_not_asked_about(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Asking(http(), ", {type: CORS, cors: {allowOrigins: ['https://page'], allowMethods: [GET]}}")
        denial = answering(status="401 Unauthorized")
        async with origin(at.pod, answering()), at.mesh(tmp_path) as it, origin(at.authorizer, denial) as asked:
            reader, writer = await it.tunnel(at.authority)
            writer.write(
                b"OPTIONS / HTTP/1.1\r\nHost: app\r\nOrigin: https://page\r\nConnection: close\r\n"
                b"Access-Control-Request-Method: GET\r\n\r\n"
            )
            preflight = await reader.read()
            writer.close()
            denied = await it.get(at.authority, headers="Origin: https://page\r\n")

        assert status(preflight) == 200
        assert status(denied) == 401
        assert b"\r\naccess-control-allow-origin: https://page\r\n" in denied
        assert len(asked.heads) == 1

    run(scenario())


def test_a_client_that_leaves_takes_its_question_along(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Asking(http())
        async with origin(at.authorizer, scripted(hang)) as asked, at.mesh(tmp_path) as it:
            _, writer = await it.tunnel(at.authority)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            await settled(lambda: len(asked.heads) == 1)
            writer.transport.abort()
            await settled(
                lambda: (
                    it.path.exchanges == 0
                    and it.path.filters.get(ExternalAuthorization).questions == 0
                    and asked.closed == 1
                )
            )

    run(scenario())


# -- AuthorizationPolicy, action CUSTOM ----------------------------------------------------------------------------


POLICY = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    extensionProviders:
      - name: ours
        {provider}
      - name: zipkin
        zipkin: {{service: zipkin.default.svc.cluster.local, port: 9411}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ours}}
spec:
  targetRefs: [{{kind: Service, group: "", name: app}}]
  action: CUSTOM
  provider: {{name: {name}}}
  rules: [{rule}]
"""
OVER_HTTP = "envoyExtAuthzHttp: {{service: authorizer.default.svc.cluster.local, port: 9080, {fields}}}"
OVER_GRPC = "envoyExtAuthzGrpc: {{service: default/authorizer.default.svc.cluster.local, port: 9000, {fields}}}"
ADMIN = "{to: [{operation: {paths: [/admin*]}}]}"


class Custom(Setting):
    """A service of which an AuthorizationPolicy wants some requests asked about."""

    def __init__(self, provider: str, fields: str = "", *, rule: str = ADMIN, name: str = "ours") -> None:
        super().__init__()
        self.authorizer = address()
        service = AUTHORIZER.format(vip=address(), ip=self.authorizer, auth="", filters="", annotations="")
        self.service = service.rpartition("---")[0]
        self.policy = POLICY.format(provider=provider.format(fields=fields), rule=rule, name=name)

    def manifests(self, more: str = "") -> str:
        return super().manifests("\n---\n".join(filter(None, (self.service, self.policy, more))))


def test_a_custom_policy_asks_about_what_it_matches_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        returned = "headersToUpstreamOnAllow: [x-user*], headersToDownstreamOnAllow: [x-seen]"
        at = Custom(OVER_HTTP, f"pathPrefix: /check, {returned}")
        allow = answering(b"", headers="X-User-Name: jason\r\nX-Other: 1\r\nX-Seen: yes\r\n")
        async with origin(at.pod, answering()) as seen, origin(at.authorizer, allow) as asked, at.mesh(tmp_path) as it:
            plain = await it.get(at.authority, "/")
            admin = await it.get(at.authority, "/admin/a", "X-Seen: no\r\n")

        assert (status(plain), status(admin)) == (200, 200)
        assert [it.split(b" ")[1] for it in asked.heads] == [b"/check/admin/a"]
        assert b"\r\nx-user-name: jason\r\n" in seen.heads[1]
        assert b"x-other" not in seen.heads[1]
        assert b"\r\nx-seen: yes\r\n" in admin
        assert b"x-seen" not in plain

    run(scenario())


def test_a_custom_denial_comes_before_a_token_is_looked_at(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Custom(OVER_HTTP, "headersToDownstreamOnDeny: [x-why]")
        tokens = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  targetRefs: [{kind: Service, group: "", name: app}]
  jwtRules: [{issuer: us, jwks: '{"keys": []}'}]
"""
        denial = answering(b"no", status="402 Payment Required", headers="X-Why: money\r\nX-Other: 1\r\n")
        async with origin(at.pod, answering()), origin(at.authorizer, denial), at.mesh(tmp_path, tokens) as it:
            denied = await it.get(at.authority, "/admin", "Authorization: Bearer a.b.c\r\n")
            unchecked = await it.get(at.authority, "/", "Authorization: Bearer a.b.c\r\n")

        assert (status(denied), status(unchecked)) == (402, 401)
        assert body(denied) == b"no"
        assert b"\r\nx-why: money\r\n" in denied
        assert b"x-other" not in denied

    run(scenario())


def test_what_a_custom_provider_allows_other_policies_still_deny(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Custom(OVER_GRPC)
        deny = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec:
  targetRefs: [{kind: Service, group: "", name: app}]
  action: DENY
  rules: [{to: [{operation: {paths: [/admin/secret]}}]}]
"""
        async with origin(at.pod, answering()), at.mesh(tmp_path, deny) as it:
            with grpc_authorizer(at.authorizer) as authorizer:
                allowed = await it.get(at.authority, "/admin")
                denied = await it.get(at.authority, "/admin/secret")

        assert (status(allowed), status(denied)) == (200, 403)
        assert body(denied) == b"RBAC: access denied"
        assert len(authorizer.requests) == 2

    run(scenario())


AS_WELL = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: second}
spec:
  targetRefs: [{kind: Service, group: "", name: app}]
  action: CUSTOM
  provider: {name: %s}
  rules: [{}]
"""
BOTH = f"""{OVER_GRPC}
      - name: second
        envoyExtAuthzHttp:
          service: authorizer.default.svc.cluster.local
          port: 9080
          includeRequestBodyInCheck: {{{{maxRequestBytes: 8, allowPartialMessage: true}}}}"""


@pytest.mark.parametrize(
    ("first", "second", "expected", "asked"),
    [
        (0, "200 OK", 200, (1, 1)),
        (0, "402 Payment Required", 402, (1, 1)),
        (7, "200 OK", 403, (1, 0)),
    ],
)
def test_of_two_providers_both_must_allow(
    tmp_path: Path, first: int, second: str, expected: int, asked: tuple[int, int]
) -> None:
    def answer(request: CheckRequest) -> CheckResponse:
        response = CheckResponse()
        response.status.code = first
        return response

    async def scenario() -> None:
        told = "includeRequestBodyInCheck: {maxRequestBytes: 4, allowPartialMessage: true}"
        at = Custom(BOTH, told, rule="{}")
        other = origin(at.authorizer, answering(status=second))
        async with origin(at.pod, answering()) as seen, other as others, at.mesh(tmp_path, AS_WELL % "second") as it:
            with grpc_authorizer(at.authorizer, answer) as authorizer:
                got = await post(it, at.authority, "Content-Length: 12\r\n", b"12345", b"6789012")

        assert status(got) == expected
        assert (len(authorizer.requests), len(others.heads)) == asked
        assert authorizer.requests[0].attributes.request.http.body == "1234"
        assert others.bodies == [b"12345678"] * asked[1]
        assert seen.bodies == ([b"123456789012"] if expected == 200 else [])

    run(scenario())


def test_an_unknown_provider_denies_whatever_another_one_would_say(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Custom(OVER_GRPC, rule="{}")
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path, AS_WELL % "unknown") as it:
            with grpc_authorizer(at.authorizer) as authorizer:
                answer = await it.get(at.authority)

        assert status(answer) == 403
        assert not authorizer.requests
        assert not seen.heads

    run(scenario())


@pytest.mark.parametrize(
    ("name", "fields"),
    [("zipkin", ""), ("nobody", ""), ("ours", "timeout: soon"), ("ours", "failOpen: true, port: 1")],
)
def test_a_provider_that_nobody_knows_denies_what_the_policy_matches(tmp_path: Path, name: str, fields: str) -> None:
    async def scenario() -> None:
        at = Custom(OVER_HTTP, fields, name=name)
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            admin, plain = await it.get(at.authority, "/admin"), await it.get(at.authority, "/")
            problems = [problem.code for problem in it.holder.current.problems]

        assert (status(admin), status(plain)) == (403, 200)
        assert len(seen.heads) == 1
        assert "PWP0133" in problems

    run(scenario())


@pytest.mark.parametrize(
    ("fields", "expected"), [("failOpen: true", 200), ("statusOnError: '503'", 503), ("timeout: 100ms", 403)]
)
def test_a_provider_says_what_becomes_of_requests_without_an_answer(tmp_path: Path, fields: str, expected: int) -> None:
    async def scenario() -> None:
        at = Custom(OVER_HTTP, fields)
        step = hang if "timeout" in fields else reply("500 Internal Server Error")
        async with origin(at.pod, answering()), origin(at.authorizer, scripted(step)), at.mesh(tmp_path) as it:
            answer = await it.get(at.authority, "/admin")
            text = it.metrics.render("")[0].decode()

        outcome = "failure_mode_allowed" if expected == 200 else "error"
        assert status(answer) == expected
        assert f'pywaypoint_external_auth_total{{provider="ours",outcome="{outcome}"}} 1' in text

    run(scenario())


def test_nonsense_denies_even_where_no_answer_would_allow(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Custom(OVER_HTTP, "failOpen: true")
        nonsense = scripted(raw(b"HTTP/1.1 200 OK\r\nX-User: a\nX-Admin: yes\r\nContent-Length: 0\r\n\r\n"))
        async with origin(at.pod, answering()) as seen, origin(at.authorizer, nonsense), at.mesh(tmp_path) as it:
            answer = await it.get(at.authority, "/admin")

        assert status(answer) == 403
        assert not seen.heads

    run(scenario())


@pytest.mark.parametrize("head", ["Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_body_that_is_too_long_to_be_told_whole_is_refused(tmp_path: Path, head: str) -> None:
    async def scenario() -> None:
        at = Custom(OVER_GRPC, "includeRequestBodyInCheck: {maxRequestBytes: 6, packAsBytes: true}", rule="{}")
        part = b"7\r\n1234567\r\n" if "chunked" in head else b"1234567"
        async with origin(at.pod, scripted(reply(), hang)) as seen, at.mesh(tmp_path) as it:
            with grpc_authorizer(at.authorizer) as authorizer:
                refused = await post(it, at.authority, head, part)
                told = await post(it, at.authority, "Content-Length: 6\r\n", b"12345\xff")

        assert (status(refused), status(told)) == (413, 200)
        assert [it.attributes.request.http.raw_body for it in authorizer.requests] == [b"12345\xff"]
        assert len(seen.heads) == 1

    run(scenario())


def test_a_custom_rule_that_only_a_token_fulfils_denies_because_nobody_was_asked() -> None:
    rule = "{from: [{source: {requestPrincipals: ['us/jason']}}]}"
    snapshot = compiled(documents_of(mesh=Custom(OVER_HTTP, rule=rule).manifests()))
    destination = snapshot.destinations["app.default.svc.cluster.local", 9080]
    peer, head = Peer(None, "10.0.0.1", 1), RequestHead(b"GET", b"app", b"/", b"", [])
    jason = Claims({"iss": "us", "sub": "jason"})

    denied = decide(destination, peer, head, lambda chance: 0.0, claims=jason, granted=())
    others = decide(destination, peer, head, lambda chance: 0.0, claims=None, granted=())

    assert first_question(destination, peer, head) is None
    assert (denied.status, others.status) == (403, 0)


# -- whatever carries the request ----------------------------------------------------------------------------------


def test_after_a_denial_the_connection_serves_the_next_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Asking(http("", 4))
        denial = scripted(reply("401 Unauthorized", b"no"), reply())
        async with origin(at.pod, answering()), origin(at.authorizer, denial), at.mesh(tmp_path) as it:
            reader, writer = await it.tunnel(at.authority)
            writer.write(b"POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))
            writer.write(b"GET /b HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()

        assert status(answer) == 401
        assert b"connection: close" in answer or answer.count(b"HTTP/1.1 ") == 2

    run(scenario())


def test_a_grpc_client_is_told_in_its_own_terms(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with grpc_setting(tmp_path) as it:
            it.mesh.rule(Authorizer("nobody", None))
            with pytest.raises(grpc.RpcError) as caught:
                await it.unary("Unary", b"hello")

            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert not it.seen.metadata

    run(scenario())


@pytest.mark.parametrize("most", [4, 64, 200_000])
def test_a_body_in_http2_that_was_told_in_part_arrives_whole(tmp_path: Path, most: int) -> None:
    """The application stands in for an authorizer that fails: it has no such method."""

    async def scenario() -> None:
        async with grpc_setting(tmp_path) as it:
            (name,) = it.mesh.holder.current.clusters
            authorizer = Authorizer(
                "app", name, is_grpc=True, is_fail_open=True, max_body_bytes=most, takes_part=True, packs_as_bytes=True
            )
            it.mesh.rule(authorizer)
            answer, _ = await it.unary("Unary", b"x" * 100_000)

            assert answer == b"x" * 100_000

    run(scenario())
