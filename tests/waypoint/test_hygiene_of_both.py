"""Both versions of HTTP refuse the same heads and trailers, of requests and responses."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from l4.config.settings import InvalidSetting, Settings
from policies.attributes import Headers
from tests.kit.aio import run
from tests.kit.http2 import Http2Peer
from tests.kit.mesh import with_settings
from tests.kit.origin import answering
from tests.waypoint.test_http1 import responding
from tests.waypoint.test_http2 import Setting, _setting
from waypoint.settings import SECTIONS

Ask = Callable[[Setting, bytes, Headers, Headers], Awaitable[int]]
"""Sends a request with these headers and trailers; gives the status of its answer."""


async def _over_http1(it: Setting, method: bytes, headers: Headers, trailers: Headers) -> int:
    reader, writer = await it.mesh.tunnel(it.authority)
    lines = [method + b" / HTTP/1.1", b"Host: app", b"Connection: close, TE", b"TE: trailers"]
    lines += [b"Transfer-Encoding: chunked", *map(b": ".join, headers), b""]
    last = [b"1", b"a", b"0", *map(b": ".join, trailers), b"", b""]
    writer.write(b"\r\n".join([*lines, *last]))
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


async def _over_http2(it: Setting, method: bytes, headers: Headers, trailers: Headers) -> int:
    client = await it.client()
    stream = client.request(method, headers=[(b"te", b"trailers"), *headers], is_open=True)
    client.send(stream, b"a", end=not trailers)
    if trailers:
        client.trailers(stream, trailers)
    return (await client.answer(stream)).status


both = pytest.mark.parametrize("ask", [_over_http1, _over_http2], ids=["http1", "http2"])
"""What the client speaks."""
DENY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny}
spec:
  targetRefs: [{kind: Service, group: "", name: app}]
  action: DENY
  rules:
  - to: [{operation: {methods: [DELETE, REINDEX]}}]
  - when: [{key: "request.headers[x-role]", values: [admin]}]
"""
EDITS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules:
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {remove: [x-internal], set: [{name: x-tenant, value: a}]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {remove: [x-secret]}
    backendRefs: [{name: app, port: 9080}]
"""


# -- methods -------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("method", "status"),
    [(b"delete", 400), (b"Delete", 400), (b"dELETE", 400), (b"HACK", 400), (b"TRACE", 405), (b"DELETE", 403)],
)
def test_a_method_has_one_spelling_and_is_known(tmp_path: Path, ask: Ask, method: bytes, status: int) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, more=DENY) as it:
            seen = await it.http2()

            assert await ask(it, method, [], []) == status
            assert not seen.requests

    run(scenario())


@both
@pytest.mark.parametrize("port", ["http", "h2c"])
def test_a_method_of_the_setting_passes_as_it_is(tmp_path: Path, ask: Ask, port: str) -> None:
    async def scenario() -> None:
        settings = with_settings(extra_methods="FLUSH-ALL, TRACE")
        async with _setting(tmp_path, port=port, more=DENY, settings=settings) as it:
            if port == "http":
                seen = await it.http1(_chunks_read)
            else:
                http2 = await it.http2()

            for method in (b"FLUSH-ALL", b"TRACE", b"POST"):
                assert await ask(it, method, [], []) == 200
            assert await ask(it, b"flush-all", [], []) == 400
            if port == "http":
                assert [head.split(b" ")[0] for head in seen.heads] == [b"FLUSH-ALL", b"TRACE", b"POST"]
            else:
                assert [it.headers[b":method"] for it in http2.requests] == [b"FLUSH-ALL", b"TRACE", b"POST"]

    run(scenario())


@both
def test_a_method_of_the_setting_is_judged(tmp_path: Path, ask: Ask) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, more=DENY, settings=with_settings(extra_methods="REINDEX")) as it:
            assert await ask(it, b"REINDEX", [], []) == 403

    run(scenario())


@pytest.mark.parametrize("text", ["delete", "GET POST", "A(", "CONNECT", "É"])
def test_a_setting_takes_no_method_that_would_be_another_in_capitals(text: str) -> None:
    with pytest.raises(InvalidSetting, match="EXTRA_METHODS contains"):
        Settings.from_environment({"EXTRA_METHODS": text}, SECTIONS)


# -- trailers ------------------------------------------------------------------------------------------------------

FORBIDDEN: Headers = [
    (b"x-role", b"admin"),
    (b"x_role", b"admin"),
    (b"x-internal", b"1"),
    (b"x-tenant", b"b"),
    (b"x-told", b"twice"),
    (b"x-envoy-peer-metadata", b"abc"),
    (b"x_envoy_peer_metadata_id", b"abc"),
    (b"x-envoy-attempt-count", b"7"),
    (b"x-forwarded-client-cert", b"By=me"),
    (b"x-forwarded-for", b"10.0.0.1"),
    (b"proxy-authorization", b"Basic abc"),
    (b"authorization", b"Bearer abc"),
    (b"x-request-id", b"2"),
    (b"x_request_id", b"2"),
    (b"if-match", b"*"),
    (b"server", b"me"),
    (b"via", b"me"),
    (b"access-control-allow-origin", b"*"),
    (b"content-location", b"/admin"),
    (b"cookie", b"a=b"),
]


@both
def test_trailers_of_a_request_carry_nothing_that_was_or_could_have_been_judged(tmp_path: Path, ask: Ask) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, more=f"{DENY}\n---\n{EDITS}") as it:
            seen = await it.http2()

            head = [(b"x-told", b"once")]
            assert await ask(it, b"POST", head, [*FORBIDDEN, (b"x-sum", b"1"), (b"content-digest", b"d")]) == 200
            assert seen.requests[0].trailers == {b"x-sum": b"1", b"content-digest": b"d"}

    run(scenario())


@both
def test_trailers_tell_nothing_that_only_a_verified_token_may(tmp_path: Path, ask: Ask) -> None:
    more = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt}
spec:
  targetRefs: [{kind: Service, group: "", name: app}]
  jwtRules:
  - issuer: me
    jwks: '{"keys": []}'
    fromHeaders: [{name: x-token}]
    outputClaimToHeaders: [{header: x-user, claim: sub}]
"""

    async def scenario() -> None:
        async with _setting(tmp_path, more=more) as it:
            seen = await it.http2()

            trailers = [(b"x-user", b"admin"), (b"x_user", b"admin"), (b"x-token", b"a.b.c"), (b"x-sum", b"1")]
            assert await ask(it, b"POST", [], trailers) == 200
            assert seen.requests[0].trailers == {b"x-sum": b"1"}

    run(scenario())


@pytest.mark.parametrize("port", ["http", "h2c"])
def test_trailers_of_a_response_carry_nothing_that_its_head_may_not(tmp_path: Path, port: str) -> None:
    kept = [(b"grpc-status", b"0"), (b"server-timing", b"db"), (b"x-request-id", b"mine")]
    given = [
        (b"x-envoy-peer-metadata", b"abc"),
        (b"x_envoy_peer_metadata", b"abc"),
        (b"x-envoy-upstream-service-time", b"0"),
        (b"proxy-authenticate", b"Basic"),
        (b"proxy-authorization", b"Basic abc"),
        (b"www-authenticate", b"Basic"),
        (b"set-cookie", b"a=b"),
        (b"location", b"/admin"),
        (b"access-control-allow-origin", b"*"),
        (b"server", b"me"),
        (b"x-secret", b"1"),
        *kept,
    ]

    def respond(peer: Http2Peer, stream: int) -> None:
        peer.h2.send_headers(stream, [(b":status", b"200")])
        peer.send(stream, b"body")
        peer.trailers(stream, given)

    async def scenario() -> None:
        async with _setting(tmp_path, port=port, more=EDITS) as it:
            if port == "http":
                lines = b"".join(b"%b: %b\r\n" % field for field in given)
                await it.http1(
                    responding(
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + lines + b"\r\n"
                    )
                )
            else:
                await it.http2(on_end=respond)
            client = await it.client()

            answer = await client.answer(client.request(headers=[(b"te", b"trailers")]))

            assert answer.trailers == dict(kept)

    run(scenario())


# -- underscores ---------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("setting", "status"), [("keep", 200), ("drop", 200), ("reject", 400)])
def test_names_with_underscores_are_kept_dropped_or_rejected(
    tmp_path: Path, ask: Ask, setting: str, status: int
) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, settings=with_settings(headers_with_underscores=setting)) as it:
            seen = await it.http2()

            assert await ask(it, b"POST", [(b"x_user", b"me"), (b"x-b", b"1")], [(b"x-sum", b"1")]) == status
            assert [b"x_user" in request.headers for request in seen.requests] == [setting == "keep"] * (status == 200)
            text = it.mesh.metrics.render("")[0].decode()
            assert ('pywaypoint_refused_total{reason="headers_with_underscores"' in text) == (setting == "reject")

    run(scenario())


@both
@pytest.mark.parametrize(("setting", "passes"), [("keep", True), ("drop", False), ("reject", False)])
def test_the_setting_holds_for_trailers_too(tmp_path: Path, ask: Ask, setting: str, passes: bool) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, settings=with_settings(headers_with_underscores=setting)) as it:
            seen = await it.http2()

            status = await ask(it, b"POST", [], [(b"x_sum", b"1")])

            assert status == (400 if setting == "reject" else 200)
            assert any(b"x_sum" in request.trailers for request in seen.requests) == passes

    run(scenario())


@both
@pytest.mark.parametrize(
    "name",
    [
        b"x_forwarded_client_cert",
        b"x-forwarded_client-cert",
        b"content_length",
        b"transfer_encoding",
        b"x_envoy_peer_metadata",
    ],
)
def test_another_spelling_of_what_is_taken_out_is_taken_out(tmp_path: Path, ask: Ask, name: bytes) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            seen = await it.http2()

            assert await ask(it, b"POST", [(name, b"1")], []) == 200
            assert name not in seen.requests[0].headers

    run(scenario())


def test_the_setting_is_one_of_three() -> None:
    with pytest.raises(
        InvalidSetting, match="HEADERS_WITH_UNDERSCORES is 'allow'; it must be one of keep, drop, reject"
    ):
        Settings.from_environment({"HEADERS_WITH_UNDERSCORES": "allow"}, SECTIONS)


# -- responses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["http", "h2c"])
@pytest.mark.parametrize("status", [600, 999])
def test_a_status_beyond_599_is_none(tmp_path: Path, port: str, status: int) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, port=port) as it:
            if port == "http":
                await it.http1(answering(status=f"{status} What"))
            else:
                await it.http2(on_end=lambda peer, stream: peer.respond(stream, status))
            client = await it.client()

            assert (await client.answer(client.request())).status == 502

    run(scenario())


def test_an_informational_head_of_http2_that_announces_a_body_is_refused(tmp_path: Path) -> None:
    def respond(peer: Http2Peer, stream: int) -> None:
        peer.h2.send_headers(stream, [(b":status", b"103"), (b"content-length", b"5")])
        peer.respond(stream)

    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            await it.http2(on_end=respond)
            client = await it.client()

            assert (await client.answer(client.request())).status == 502

    run(scenario())


async def _chunks_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request whose body is chunked."""
    while True:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b"1\r\na\r\n0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
