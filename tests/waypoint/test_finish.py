"""Responses, local or not: they end, have all required headers, and nothing that breaks them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policies.fault import Abort, Fault
from policies.filters import DirectResponse, Filters
from policies.rewrite import HeaderEdit, PathEdit, Redirect, UrlRewrite
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering
from tests.waypoint.test_http2 import Setting, _setting

GRPC = "Content-Type: application/grpc\r\n"
WEB = "Content-Type: application/grpc-web+proto\r\n"
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules: [{matches: [{path: {value: /ok}}], backendRefs: [{name: app, port: 9080}]}]
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


async def _read(reader: asyncio.StreamReader, method: str) -> Answer:
    """One response, by nothing but its own framing."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *lines = head.split("\r\n")[:-2]
    headers = dict(line.split(": ", 1) for line in lines)
    status = int(line.split()[1])
    if method == "HEAD" or status in (204, 304):
        return Answer(status, headers)
    if "transfer-encoding" in headers:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return Answer(status, headers, body)
    return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))


Ask = Callable[..., Awaitable[Answer]]


async def _over_http1(it: Setting, method: str = "GET", path: str = "/", headers: str = "") -> Answer:
    """The answer to the first of two requests on one connection, both of which are answered."""
    reader, writer = await it.mesh.tunnel(it.authority)
    request = f"{method} {path} HTTP/1.1\r\nHost: app\r\n{headers}\r\n".encode()
    answers = []
    for _ in range(2):
        writer.write(request)
        answers.append(await asyncio.wait_for(_read(reader, method), 5))
    writer.close()
    assert answers[0].status == answers[1].status
    return answers[0]


async def _over_http2(it: Setting, method: str = "GET", path: str = "/", headers: str = "") -> Answer:
    client = await it.client()
    fields = [tuple(line.lower().encode().split(b": ", 1)) for line in headers.split("\r\n") if line]
    seen = await client.answer(client.request(method.encode(), path.encode(), fields))  # type: ignore[arg-type]
    assert seen.reset is None
    told = {name.decode(): value.decode() for name, value in seen.headers.items() if name[:1] != b":"}
    return Answer(seen.status, told, bytes(seen.data))


both = pytest.mark.parametrize("ask", [_over_http1, _over_http2], ids=["http1", "http2"])


# -- where they end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("port", "headers"), [("http", GRPC), ("grpc", GRPC), ("grpc-web", WEB), ("grpc-web", GRPC)])
def test_an_answer_of_ours_to_grpc_over_http1_ends(tmp_path: Path, port: str, headers: str) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port=port, more=ROUTE) as it:
            answer = await _over_http1(it, "GET", "/denied", headers)

        assert (answer.status, answer.headers["grpc-status"], answer.body) == (200, "12", b"")

    run(scenario())


@both
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [200, 204, 304, 403])
def test_an_answer_of_ours_has_a_body_only_where_there_may_be_one(
    tmp_path: Path, ask: Ask, method: str, status: int
) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            it.mesh.rule(filters=Filters(direct=DirectResponse(status, b"hello")))
            answer = await ask(it, method)

        has_none = status in (204, 304)
        assert (answer.status, answer.body) == (status, b"" if has_none or method == "HEAD" else b"hello")
        assert answer.headers.get("content-length") == (None if has_none else "5")
        assert "transfer-encoding" not in answer.headers

    run(scenario())


@both
@pytest.mark.parametrize("status", [204, 304])
def test_a_fault_with_a_bodiless_status_has_no_body(tmp_path: Path, ask: Ask, status: int) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            it.mesh.rule(Fault(abort=Abort(status, 1.0)))
            answer = await ask(it)

        assert (answer.status, answer.body, answer.headers.get("content-length")) == (status, b"", None)

    run(scenario())


# -- what they carry -----------------------------------------------------------------------------------------------


@both
def test_what_servers_say_of_their_connection_costs_no_response(tmp_path: Path, ask: Ask) -> None:
    said = "Host: app\r\nUpgrade: h2,h2c\r\nConnection: Upgrade, Keep-Alive\r\nKeep-Alive: timeout=5\r\n"
    said += "Proxy-Connection: x\r\n"

    async def scenario() -> None:
        async with _setting(tmp_path, port="http") as it:
            await it.http1(answering(headers=said))
            answer = await ask(it)

        assert answer.status == 200
        assert answer.headers.keys() & {"host", "upgrade", "connection", "keep-alive", "proxy-connection"} == {"host"}

    run(scenario())


@both
@pytest.mark.parametrize("port", ["http", "h2c"])
def test_a_response_without_a_date_gets_one_and_another_keeps_its_own(tmp_path: Path, ask: Ask, port: str) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port=port) as it:
            if port == "http":
                await it.http1(answering(headers="X-A: b\r\n"))
            else:
                await it.http2()
            without = await ask(it)

        async with _setting(tmp_path, port=port) as it:
            if port == "http":
                await it.http1(answering(headers="Date: then\r\n"))
            else:
                await it.http2(on_end=lambda peer, stream: peer.respond(stream, headers=[(b"date", b"then")]))
            own = await ask(it)

        assert without.headers["date"].endswith(" GMT")
        assert own.headers["date"] == "then"
        assert without.headers["server"] == own.headers["server"] == "istio-envoy"

    run(scenario())


EDIT = HeaderEdit(set=((b"x-frame-options", b"DENY"),), add=((b"x-b", b"1"),))
OURS = {
    "a redirect": (302, {"filters": Filters(redirect=Redirect(hostname=b"other"), response_edit=EDIT)}),
    "a direct response": (418, {"filters": Filters(direct=DirectResponse(418, b"tea"), response_edit=EDIT)}),
    "a fault": (503, {"filters": Filters(response_edit=EDIT)}, Fault(abort=Abort(503, 1.0))),
    "no connection": (503, {"filters": Filters(response_edit=EDIT)}),
}


@both
@pytest.mark.parametrize("answer", list(OURS))
def test_an_answer_of_ours_has_the_headers_that_its_rule_wants(tmp_path: Path, ask: Ask, answer: str) -> None:
    status, fields, *policies = OURS[answer]

    async def scenario() -> Answer:
        async with _setting(tmp_path) as it:
            it.mesh.rule(*policies, **fields)
            return await ask(it)

    got = run(scenario())

    assert got.status == status
    assert got.headers["x-frame-options"] == "DENY"
    assert got.headers["x-b"] == "1"
    assert {"date", "server"} <= got.headers.keys()


def test_a_denied_request_is_told_nothing_of_any_rule(tmp_path: Path) -> None:
    deny = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec: {targetRefs: [{kind: Service, group: "", name: app}], action: DENY, rules: [{}]}
"""

    async def scenario() -> Answer:
        async with _setting(tmp_path, more=deny) as it:
            it.mesh.rule(filters=Filters(response_edit=EDIT))
            return await _over_http1(it)

    answer = run(scenario())

    assert answer.status == 403
    assert "x-frame-options" not in answer.headers


@both
@pytest.mark.parametrize("name", ["x-envoy-upstream-service-time", "server", "date"])
def test_a_rule_may_take_away_what_we_add(tmp_path: Path, ask: Ask, name: str) -> None:
    async def scenario() -> Answer:
        async with _setting(tmp_path, port="http") as it:
            await it.http1(answering())
            before = await ask(it)
            it.mesh.rule(filters=Filters(response_edit=HeaderEdit(remove=(name.encode(),))))
            after = await ask(it)

        assert name in before.headers
        return after

    assert name not in run(scenario()).headers


# -- what is never written -----------------------------------------------------------------------------------------

INJECTED = b"a\r\nx-injected: 1"
BAD_REQUESTS = {
    "a path with a line in it": Filters(rewrite=UrlRewrite(path=PathEdit(b"/x HTTP/1.1\r\nX-Injected: 1\r\nX: "))),
    "a blank as path": Filters(rewrite=UrlRewrite(path=PathEdit(b" "))),
    "a path without a slash": Filters(rewrite=UrlRewrite(path=PathEdit(b"noslash"))),
    "an authority with a line in it": Filters(rewrite=UrlRewrite(hostname=INJECTED)),
    "an empty authority": Filters(rewrite=UrlRewrite(hostname=b"")),
    "a value with a line in it": Filters(request_edit=HeaderEdit(set=((b"x-a", INJECTED),))),
    "a value with NUL": Filters(request_edit=HeaderEdit(add=((b"x-a", b"\0"),))),
    "a name with a line in it": Filters(request_edit=HeaderEdit(add=((b"x\r\ny", b"1"),))),
    "a length": Filters(request_edit=HeaderEdit(set=((b"content-length", b"5"),))),
    "a coding": Filters(request_edit=HeaderEdit(set=((b"transfer-encoding", b"chunked"),))),
    "a connection": Filters(request_edit=HeaderEdit(set=((b"connection", b"x-request-id"),))),
    "a second host": Filters(request_edit=HeaderEdit(add=((b"host", b"other"),))),
}
BAD_RESPONSES = {
    "a value with a line in it": Filters(response_edit=HeaderEdit(set=((b"x-a", INJECTED),))),
    "a name with a blank": Filters(response_edit=HeaderEdit(add=((b"x a", b"1"),))),
    "a length": Filters(response_edit=HeaderEdit(add=((b"content-length", b"0"),))),
    "a coding": Filters(response_edit=HeaderEdit(add=((b"transfer-encoding", b"chunked"),))),
    "a status that ends no request": Filters(direct=DirectResponse(103, b"")),
    "a status that switches protocols": Filters(direct=DirectResponse(101, b"")),
    "a status of four digits": Filters(direct=DirectResponse(2000, b"")),
    "a location with a line in it": Filters(redirect=Redirect(hostname=INJECTED)),
    "a redirect's value with a line in it": Filters(
        redirect=Redirect(hostname=b"other"), response_edit=HeaderEdit(set=((b"x-a", INJECTED),))
    ),
}


@both
@pytest.mark.parametrize("port", ["http", "h2c"])
@pytest.mark.parametrize("case", list(BAD_REQUESTS))
def test_a_request_that_must_not_be_written_is_an_answer_and_costs_no_connection(
    tmp_path: Path, ask: Ask, port: str, case: str
) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port=port) as it:
            seen = await (it.http1(answering()) if port == "http" else it.http2())
            good = it.mesh.holder.current
            it.mesh.rule(filters=BAD_REQUESTS[case])
            answer = await ask(it)
            await settled(lambda: "500 LR unwritable_request_head" in it.mesh.access_log)
            refused = it.mesh.metrics.render("")[0].decode()
            it.mesh.holder.swap(good)
            assert (await ask(it)).status == 200

            assert (answer.status, answer.body) == (500, b"")
            assert 'pywaypoint_refused_total{reason="unwritable_head"' in refused
            assert len(seen.heads if port == "http" else seen.requests) == (2 if ask is _over_http1 else 1)

    run(scenario())


@both
@pytest.mark.parametrize("port", ["http", "h2c"])
@pytest.mark.parametrize("case", list(BAD_RESPONSES))
def test_a_response_that_must_not_be_written_is_another_answer(tmp_path: Path, ask: Ask, port: str, case: str) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port=port) as it:
            await (it.http1(answering()) if port == "http" else it.http2())
            it.mesh.rule(filters=BAD_RESPONSES[case])
            answer = await ask(it)
            await settled(lambda: "500 LR unwritable_response_head" in it.mesh.access_log)

            assert (answer.status, answer.body) == (500, b"")
            assert "x-injected" not in answer.headers
            assert answer.headers.get("content-length") == ("0" if ask is _over_http1 else None)

    run(scenario())
