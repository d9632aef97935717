"""RequestAuthentication through real tunnels: accepted tokens, the endpoint's request, and sources of keys."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_http_route import TO_V1, http_route
from tests.kit.aio import run
from tests.kit.echo import Answer, echo_mesh
from tests.kit.issuer import ISSUER, SigningKey, jwks, key_server
from tests.kit.mesh import settled, with_settings
from waypoint.config.codes import ConfigCode
from waypoint.config.dump import dump
from waypoint.telemetry.recorder import Recorder, RecorderSettings

KEY = SigningKey.generate()
SERVICE = {"kind": "Service", "name": "echo"}


def policy(*rules: dict[str, Any], target: dict[str, Any] = SERVICE, **place: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "default", **place},
        "spec": {"targetRefs": [target], "jwtRules": list(rules)},
    }


def rule(**fields: Any) -> dict[str, Any]:
    return {"issuer": ISSUER, "jwks": jwks(KEY), **fields}


def token(key: SigningKey = KEY, **claims: Any) -> str:
    return key.sign({"iss": ISSUER, "sub": "alice", **claims})


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}\r\n"


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


def test_a_request_without_token_passes_and_one_with_a_good_token_loses_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule())) as it:
            without = await it.ask()
            good = await it.ask(headers=bearer(token()))

            assert (without.status, good.status) == (200, 200)
            assert "authorization" not in good.seen_headers

    run(scenario())


def test_a_token_is_forwarded_where_that_is_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule(forwardOriginalToken=True))) as it:
            text = token()

            answer = await it.ask(headers=bearer(text))

            assert answer.seen_headers["authorization"] == f"Bearer {text}"

    run(scenario())


REFUSED = {
    "no token at all": (
        "nonsense",
        401,
        "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    ),
    "another issuer": (token(iss="https://other"), 401, "Jwt issuer is not configured"),
    "expired": (token(exp=int(time.time()) - 120), 401, "Jwt is expired"),
    "too early": (token(nbf=int(time.time()) + 86400), 401, "Jwt not yet valid"),
    "for others": (token(aud="shop"), 403, "Audiences in Jwt are not allowed"),
    "of an unknown key": (
        token(SigningKey.generate(kid="x")),
        401,
        "Jwks doesn't have key to match kid or alg from Jwt",
    ),
    "forged": (token(SigningKey.generate(), aud="books"), 401, "Jwt verification fails"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_token_that_is_not_good_is_refused_in_envoys_words(tmp_path: Path, case: str) -> None:
    text, status, body = REFUSED[case]
    audiences = {} if case == "of an unknown key" else {"audiences": ["books"]}

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule(**audiences))) as it:
            answer = await it.ask("/a?b=c", headers=bearer(text))

            assert told(answer) == (status, body)
            assert answer.headers["www-authenticate"] == 'Bearer realm="http://echo/a", error="invalid_token"'
            detail = f"jwt_authn_access_denied{{{body.replace(' ', '_')}}}"
            await settled(lambda: f" {status} - {detail} " in it.mesh.access_log)
            assert not any(origin.heads for origin in it.origins.values())

    run(scenario())


def test_a_grpc_client_is_told_in_its_own_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule())) as it:
            answer = await it.ask(method="POST", headers=f"content-type: application/grpc\r\n{bearer('x.y')}")

            assert (answer.status, answer.headers["grpc-status"]) == (200, "16")

    run(scenario())


def test_what_tokens_say_reaches_the_endpoint_and_nobody_else_can_say_it(tmp_path: Path) -> None:
    outputs = [{"header": "X-Group", "claim": "realm.group"}, {"header": "X-Admin", "claim": "admin"}]
    rules = rule(outputClaimToHeaders=outputs, outputPayloadToHeader="X-Payload")
    spoofed = "X-Group: admins\r\nx-admin: true\r\nx-payload: e30\r\n"

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rules)) as it:
            text = token(realm={"group": "readers"}, admin=False)

            without = await it.ask(headers=spoofed)
            good = await it.ask(headers=spoofed + bearer(text))

            assert not {"x-group", "x-admin", "x-payload"} & without.seen_headers.keys()
            assert (good.seen_headers["x-group"], good.seen_headers["x-admin"]) == ("readers", "false")
            assert good.seen_headers["x-payload"] == text.split(".")[1]

    run(scenario())


def test_tokens_are_found_in_headers_parameters_and_cookies_and_taken_from_there(tmp_path: Path) -> None:
    places = rule(fromHeaders=[{"name": "x-jwt", "prefix": "jwt "}], fromParams=["key"], fromCookies=["sid"])

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(places)) as it:
            text = token()

            header = await it.ask(headers=f"x-jwt: jwt {text}\r\n")
            param = await it.ask(f"/a?x=1&key={text}&y=2")
            cookie = await it.ask(headers=f"cookie: a=b; sid={text}; c=d\r\n")
            elsewhere = await it.ask(headers=bearer("no token"))

            assert "x-jwt" not in header.seen_headers
            assert param.seen["path"] == "/a?x=1&y=2"
            assert cookie.seen_headers["cookie"] == "a=b; c=d"
            assert elsewhere.seen_headers["authorization"] == "Bearer no token"
            assert told(await it.ask("/?key=bad"))[0] == told(await it.ask(headers="cookie: sid=bad\r\n"))[0] == 401

    run(scenario())


def test_each_issuer_has_its_keys_and_one_good_token_is_enough(tmp_path: Path) -> None:
    other = SigningKey.generate("EdDSA", "other")
    rules = rule(), {"issuer": "second", "jwks": jwks(other), "fromHeaders": [{"name": "x-second"}]}

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(*rules)) as it:
            second = other.sign({"iss": "second"})

            assert (await it.ask(headers=bearer(token()))).status == 200
            assert (await it.ask(headers=f"x-second: {second}\r\n")).status == 200
            assert (await it.ask(headers=f"x-second: {second}\r\n{bearer('x')}")).status == 200
            crossed = other.sign({"iss": ISSUER}, kid="key", alg="EdDSA")
            assert told(await it.ask(headers=bearer(crossed))) == (401, "Jwt verification fails")

    run(scenario())


def test_a_browsers_preflight_passes_whatever_it_carries(tmp_path: Path) -> None:
    preflight = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n"

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule())) as it:
            answer = await it.ask(method="OPTIONS", headers=preflight + bearer("bad"))

            assert answer.status == 200

    run(scenario())


@pytest.mark.parametrize(
    ("target", "namespace", "status"),
    [
        ({"kind": "Service", "name": "echo-v1"}, "default", 200),
        ({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}, "default", 401),
        ({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "other"}, "default", 200),
        ({"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "pywaypoint"}, "istio-system", 401),
        ({"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": "pywaypoint"}, "default", 200),
    ],
)
def test_a_policy_holds_for_its_targets(tmp_path: Path, target: dict[str, Any], namespace: str, status: int) -> None:
    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule(), target=target, namespace=namespace)) as it:
            assert (await it.ask(headers=bearer("bad"))).status == status

    run(scenario())


def test_a_rule_that_cannot_be_used_refuses_its_tokens_and_says_so(tmp_path: Path) -> None:
    broken = policy(rule(jwks='{"keys": []}'), {"issuer": "second", "jwksUri": "ftp://keys"})

    async def scenario() -> None:
        async with echo_mesh(tmp_path, broken) as it:
            first = await it.ask(headers=bearer(token()))
            second = await it.ask(headers=bearer(token(iss="second")))

            assert (await it.ask()).status == 200
            assert told(first) == told(second) == (401, "Jwks doesn't have any valid public key")
            codes = [problem.code for problem in it.mesh.holder.current.problems]
            assert codes == [ConfigCode.TOKENS_REFUSED, ConfigCode.TOKENS_REFUSED]

    run(scenario())


def test_authorization_asks_for_what_tokens_say(tmp_path: Path) -> None:
    """Istio's own scenario TestL7JWT, and a group."""
    allowed = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "tokens", "namespace": "default"},
        "spec": {
            "targetRefs": [SERVICE],
            "rules": [
                {"to": [{"operation": {"paths": ["/healthz"]}}]},
                {
                    "from": [{"source": {"requestPrincipals": [f"{ISSUER}/sub-1"]}}],
                    "to": [{"operation": {"methods": ["GET"]}}],
                },
                {"when": [{"key": "request.auth.claims[scope]", "values": ["admin"]}]},
            ],
        },
    }

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule()), allowed) as it:

            async def status(text: str = "", path: str = "/", method: str = "GET") -> int:
                return (await it.ask(path, method=method, headers=bearer(text) if text else "")).status

            assert [await status(), await status(path="/healthz")] == [403, 200]
            assert [await status(token(sub=name)) for name in ("sub-1", "sub-2")] == [200, 403]
            assert await status(token(sub="sub-1"), method="POST") == 403
            assert [await status(token(scope=words), method="POST") for words in ("read admin", "adm in")] == [200, 403]
            assert await status(token(iss="https://other", sub="sub-1")) == 401
            assert await status(token(sub="sub-1", exp=1)) == 401
            assert await status(token(sub="sub-1", exp=1), "/healthz") == 401

    run(scenario())


def test_a_token_shows_up_in_no_log_and_no_recording(tmp_path: Path) -> None:
    places = rule(fromHeaders=[{"name": "x-me"}], fromParams=["me"])

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(places), http_route({"backendRefs": TO_V1})) as it:
            it.mesh.path.recorder = recorder = Recorder(str(tmp_path / "heads"), RecorderSettings())
            texts = [token(sub=name) for name in ("in-header", "in-param", "escaped")]

            await it.ask(headers=f"x-me: {texts[0]}\r\n")
            await it.ask(f"/?me={texts[1]}")
            await it.ask(f"/?m%65={texts[2]}bad")

            recorder.close()
            await settled(lambda: it.mesh.access_log.count("\n") == 3)
            written = it.mesh.access_log + (tmp_path / "heads").read_text()
            assert not [text for text in texts if text.split(".")[1] in written]
            assert written.count("(redacted)") >= 5

    run(scenario())


def test_a_secret_key_shows_up_in_no_dump_and_no_problem(tmp_path: Path) -> None:
    secret = SigningKey.generate("HS256")
    rules = rule(jwks=jwks(secret)), {"issuer": "second", "jwksUri": "https://user:password@keys"}

    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(*rules)) as it:
            answer = await it.ask(headers=bearer(token(secret)))

            snapshot = it.mesh.holder.current
            shown = f"{dump(snapshot)} {snapshot} {snapshot.problems}"
            assert answer.status == 200
            assert snapshot.problems[0].code.label == "TokensRefused"
            assert secret.jwk["k"] not in shown
            assert "password@" not in shown

    run(scenario())


def test_a_token_in_the_query_is_not_logged_of_a_request_that_is_shed_either(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with echo_mesh(tmp_path, policy(rule())) as it:
            it.mesh.path.max_exchanges = 0

            answer = await it.ask("/?access_token=secret")

            assert answer.status == 503
            await settled(lambda: "access_token=(redacted)" in it.mesh.access_log)
            assert "secret" not in it.mesh.access_log

    run(scenario())


# -- keys that are fetched -----------------------------------------------------------------------------------------


def remote(uri: str, **fields: Any) -> dict[str, Any]:
    return policy({"issuer": ISSUER, "jwksUri": uri, **fields})


def test_keys_are_fetched_before_the_first_token_is_judged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with key_server(jwks(KEY)) as server, echo_mesh(tmp_path, remote(server.jwks_uri)) as it:
            answers = await asyncio.gather(*(it.ask(headers=bearer(token())) for _ in range(5)))

            assert [answer.status for answer in answers] == [200] * 5
            assert server.fetches == 1

    run(scenario())


def test_keys_are_found_by_openid_discovery(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with key_server(jwks(KEY)) as server, echo_mesh(tmp_path, policy({"issuer": f"{server.uri}/"})) as it:
            answer = await it.ask(headers=bearer(token(iss=f"{server.uri}/")))

            assert answer.status == 200

    run(scenario())


@pytest.mark.parametrize("trouble", ["status", "no JSON", "too long", "redirect", "slow"])
def test_where_keys_cannot_be_fetched_tokens_are_refused(tmp_path: Path, trouble: str) -> None:
    async def scenario() -> None:
        async with key_server(jwks(KEY)) as server:
            match trouble:
                case "status":
                    server.status = 500
                case "no JSON":
                    server.text = "keys"
                case "too long":
                    server.text = " " * (2 << 20) + server.text
                case "redirect":
                    server.status, server.more = 302, {"location": server.jwks_uri}
                case "slow":
                    server.is_stuck = True
            async with echo_mesh(tmp_path, remote(server.jwks_uri, timeout="300ms")) as it:
                answer = await it.ask(headers=bearer(token()))

                assert told(answer) == (401, "Jwks remote fetch is failed")
                assert (await it.ask()).status == 200
                server.is_stuck = False

    run(scenario())


def test_keys_fetched_once_stay_in_use_while_they_cannot_be_fetched_again(tmp_path: Path) -> None:
    settings = with_settings(jwks_refresh_seconds=0.05, jwks_retry_seconds=0.05)

    async def scenario() -> None:
        async with (
            key_server(jwks(KEY)) as server,
            echo_mesh(tmp_path, remote(server.jwks_uri), settings=settings) as it,
        ):
            await it.ask(headers=bearer(token()))
            server.status = 503
            seen = server.fetches
            await settled(lambda: server.fetches > seen + 2)

            assert (await it.ask(headers=bearer(token(sub="later")))).status == 200

    run(scenario())


def test_a_token_of_a_new_key_has_the_keys_fetched_at_once_and_waits_for_them(tmp_path: Path) -> None:
    new = SigningKey.generate(kid="new")

    async def scenario() -> None:
        async with key_server(jwks(KEY)) as server, echo_mesh(tmp_path, remote(server.jwks_uri)) as it:
            await it.ask(headers=bearer(token()))
            server.text = jwks(new)

            assert (await it.ask(headers=bearer(token(new)))).status == 200
            assert told(await it.ask(headers=bearer(token())))[0] == 401, "its key is gone"

    run(scenario())


def test_unknown_keys_have_them_fetched_no_more_than_once_in_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with key_server(jwks(KEY)) as server, echo_mesh(tmp_path, remote(server.jwks_uri)) as it:
            for number in range(5):
                answer = await it.ask(headers=bearer(KEY.sign({"iss": ISSUER}, kid=f"no {number}")))
                assert answer.status == 401

            assert server.fetches == 2

    run(scenario())


def test_a_request_with_a_body_that_waits_for_keys_arrives_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with key_server(jwks(KEY)) as server, echo_mesh(tmp_path, remote(server.jwks_uri)) as it:
            answer = await it.ask(method="POST", headers=bearer(token()), body=b"x" * 100_000)

            assert answer.seen["body"] == "x" * 100_000

    run(scenario())


def test_keys_that_are_rotated_under_load_fail_no_request(tmp_path: Path) -> None:
    settings = with_settings(jwks_early_seconds=0.0)
    keys = [SigningKey.generate(kid=str(number)) for number in range(8)]

    async def scenario() -> None:
        async with (
            key_server(jwks(keys[0])) as server,
            echo_mesh(tmp_path, remote(server.jwks_uri), settings=settings) as it,
        ):
            statuses: list[int] = []

            async def load(current: list[SigningKey]) -> None:
                while current:
                    statuses.append((await it.ask(headers=bearer(token(current[-1])))).status)

            current = [keys[0]]
            clients = [asyncio.create_task(load(current)) for _ in range(3)]
            for old, new in pairwise(keys):
                seen = len(statuses)
                server.text = jwks(old, new)
                current.append(new)
                await settled(lambda seen=seen: len(statuses) > seen + 10, 20)
            current.clear()
            await asyncio.gather(*clients)

            assert set(statuses) == {200}

    run(scenario())
