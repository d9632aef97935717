"""The authorization cases that Envoy's RBAC can express, run with Envoy. Each difference has a reason in this file.

RBAC cannot express tokens, clients without a certificate, opaque bytes, and broken policies.
"""

import asyncio

import pytest

from tests.kit import envoy, envoy_rbac
from tests.kit.aio import run
from tests.kit.mesh import address
from tests.policies.authorization_cases import CASES, HTTP_PORT, Case

pytestmark = pytest.mark.envoy
CLIENT = "cluster.local/ns/default/sa/client"
REASONS = {
    "an IPv4 address in IPv6's clothes is that address": (
        "deny: remote '::ffff:203.0.113.7' in ['203.0.113.7']",
        "allow: remote '::ffff:203.0.113.7' in ['203.0.113.7']",
        "deny: remote '::ffff:203.0.113.7' not in ['203.0.113.7']",
    ),
    "the dot that ends an absolute name is taken off before anybody looks": (
        "deny: GET app. /: {'hosts': ['app']}",
        "allow: GET app. /: {'hosts': ['app']}",
        "deny: GET app.:9080 /: {'hosts': ['app']}",
        "allow: GET app.:9080 /: {'hosts': ['app']}",
        "evasion by host: 'internal.example.com.'",
        "evasion by host: 'Internal.Example.Com.:443'",
    ),
    "a host without port is meant with every port, also by its end": (
        "deny: GET app.example.com:9080 /: {'hosts': ['*.example.com']}",
        "allow: GET app.example.com:9080 /: {'hosts': ['*.example.com']}",
    ),
    "of a repeated header all values together must be what is allowed, and none may be what is denied": (
        "deny: GET app / x-a: 1 X-A: 2: {'key': 'request.headers[x-a]', 'values': ['1,2']}",
        "allow: GET app / x-a: 1 X-A: 2: {'key': 'request.headers[x-a]', 'values': ['1,2']}",
        "allow: repeated header, {'key': 'request.headers[x-a]', 'values': ['1']}",
        "allow: repeated header, {'key': 'request.headers[x-a]', 'values': ['2']}",
        "allow: repeated header, {'key': 'request.headers[x-a]', 'values': ['1', '2']}",
        "deny: repeated header, {'key': 'request.headers[x-a]', 'values': ['1*'], 'notValues': ['*2']}",
        "deny: repeated header, {'key': 'request.headers[x-a]', 'notValues': ['1*']}",
        "deny: repeated header, {'key': 'request.headers[x-a]', 'notValues': ['1']}",
        "deny: repeated header, {'key': 'request.headers[x-a]', 'notValues': ['1', '2']}",
        "evasion by header: ('x-key: secret', 'x-key: wrong')",
        "evasion by header: ('x-key: wrong', 'x-key: secret')",
        "evasion by header: ('x-key: secret', 'x-key:')",
    ),
    "parameters in a path don't lead past a DENY": (
        "evasion of a DENY: '/admin;x=1'",
        "evasion of a DENY: '/admin;/x'",
    ),
    "a segment with parameters is no dot when the path is made plain, and what goes on is what was judged": (
        "evasion of a DENY: '/a/.;/../admin'",
    ),
    "a path of a policy is given the form that requests have": (
        "deny: GET app /admin: {'paths': ['/%61dmin']}",
        "allow: GET app /admin: {'paths': ['/%61dmin']}",
    ),
    "what means two things, or nothing, is refused before it is judged": (
        "evasion of a DENY: '/%2%34%31'",
        "evasion of a DENY: 'http://app?/admin'",
        "evasion by host: 'internal.example.com:'",
        "evasion by host: 'internal.example.com:80:80'",
        "evasion by host: 'user@internal.example.com'",
        "evasion by host: 'internal%2eexample.com'",
        "evasion by host: 'internal.example.com..'",
        "evasion by host: ''",
        "two hosts are none",
        "evasion by header: ('x-other: a\\n x-key: secret',)",
        "evasion by method: TRACE ()",
    ),
}


def _is_expressible(case: Case) -> bool:
    ask = case.ask
    is_plain = ask.account == "client" and ask.claims is None and ask.port == HTTP_PORT
    text = str(case.policies)
    return is_plain and not case.name.startswith("broken") and "equest.auth" not in text and "equestP" not in text


def _on_trial(policy: dict[str, object]) -> bool:
    metadata = policy["metadata"]
    assert isinstance(metadata, dict)
    return metadata.get("annotations", {}).get("istio.io/dry-run") == "true"


async def _verdict(number: int, case: Case, at: envoy.Address) -> str:
    """As the table has it, but for refusals, which Envoy may give another status."""
    reader, writer = await asyncio.open_connection(*at)
    writer.write(case.ask.raw.removesuffix(b"\r\n") + b"x-case: %d\r\n\r\n" % number)
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    body = await reader.readexactly(int(length)) if length and case.ask.method != "HEAD" else b""
    writer.close()
    status = head.split()[1].decode()
    return {"200": "", "403": body.decode() or "403"}.get(status, "refused")


def _expected(case: Case) -> str:
    if case.verdict.isdecimal():
        return "refused"
    return "403" if case.verdict and case.ask.method == "HEAD" else case.detail if case.verdict else ""


def test_envoy_says_the_same_or_there_is_a_reason_for_the_difference() -> None:
    cases = [case for case in CASES if _is_expressible(case)]
    at = (address(), HTTP_PORT)
    sets = [[it for it in case.policies if not _on_trial(it)] for case in cases]

    async def scenario() -> list[str]:
        return await asyncio.gather(*(_verdict(number, case, at) for number, case in enumerate(cases)))

    with envoy.run(envoy_rbac.judge(at, CLIENT, sets), ready=at):
        verdicts = run(scenario(), 60)

    different = {case.name for case, verdict in zip(cases, verdicts, strict=True) if verdict != _expected(case)}
    assert len(cases) >= 250
    assert different == {name for names in REASONS.values() for name in names}
