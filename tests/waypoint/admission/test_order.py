"""The order of the steps for a request, the configuration that a waiting request uses, and its end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from policies.attributes import ClusterName
from policies.authorizer import Authorizer, Names
from policies.fault import Delay, Fault
from policies.filters import DirectResponse, Filters
from policies.header_format import FormattedHeader, HeaderFormat
from policies.rate_limit import Limit, LimitService, RateLimits, RateRule
from policies.rewrite import HeaderEdit
from policies.wire_text import header_name
from tests.kit.aio import run
from tests.kit.mesh import address, settled
from tests.kit.origin import answering, origin, reply, scripted
from tests.kit.rate_limit_server import rate_limit_server
from tests.waypoint.filters.test_external_auth import OVER_HTTP, Custom
from tests.waypoint.filters.test_rate_limit_service import policy
from tests.waypoint.test_exchange import status

CLUSTER = ClusterName("inbound-vip|9080|http|authorizer.default.svc.cluster.local")
AUTHORIZER = Authorizer("ours", CLUSTER, to_upstream=Names(exact=(b"x-user",)))
"""The same that the policy of `Custom` names."""


class OfRoute(Custom):
    """The authorizer is there, and no policy names it."""

    def __init__(self) -> None:
        super().__init__(OVER_HTTP, rule="{to: [{operation: {paths: [/nowhere]}}]}")


@dataclass(frozen=True)
class Kind:
    """Who names the authorizer: a policy, or the filters of a route."""

    setting: Callable[[], Custom]
    authorizer: Authorizer | None = None

    @property
    def policies(self) -> tuple[object, ...]:
        return () if self.authorizer is None else (self.authorizer,)


POLICY = Kind(lambda: Custom(OVER_HTTP, "headersToUpstreamOnAllow: [x-user]", rule="{}"))
ROUTE = Kind(OfRoute, AUTHORIZER)
both_kinds = pytest.mark.parametrize("kind", [POLICY, ROUTE], ids=["policy", "route"])


@pytest.mark.parametrize(("left", "expected", "noted"), [(9, 200, [0, 1]), (0, 429, [0])])
def test_a_policys_authorizer_is_asked_before_limits_and_a_routes_after_them(
    tmp_path: Path, left: int, expected: int, noted: list[int]
) -> None:
    async def scenario() -> None:
        at, limiter = Custom(OVER_HTTP, rule="{}"), address()
        rule = RateRule("all", "all", Limit(left, left, left))
        server_at = f"{limiter}:8081"
        service = LimitService(server_at, ClusterName(f"address|8081||{limiter}"), "mesh", 5, is_fail_open=False)
        limits = RateLimits("limits", (rule,), service=service)
        edit = HeaderEdit(remove=(header_name(b"x-measured"),))
        counted: list[int] = []

        async def allow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            counted.append(len(server.requests))
            await reply()(reader, writer)

        with rate_limit_server(limiter) as server:
            authorizer = origin(at.authorizer, scripted(allow))
            async with origin(at.pod, answering()) as seen, authorizer, at.mesh(tmp_path, policy(server_at)) as it:
                delayed = Fault(Delay(0.05, 1.0))
                it.rule(AUTHORIZER, limits, delayed, filters=Filters(request_edit=edit))
                answer = await it.get(at.authority)
                await settled(lambda: f" {expected} " in it.access_log)

            assert status(answer) == expected
            assert counted == noted
            assert (" DI " in it.access_log) == (expected == 200)
            assert len(seen.heads) == (expected == 200)
            assert all(b"x-measured" not in head for head in seen.heads)

    run(scenario())


@both_kinds
def test_a_rule_edits_what_an_authorizer_has_added(tmp_path: Path, kind: Kind) -> None:
    format_ = HeaderFormat.parse("%REQ(x-user)%")
    assert isinstance(format_, HeaderFormat)
    user = header_name(b"x-user")
    edit = HeaderEdit(remove=(user,), formatted=(FormattedHeader(header_name(b"x-by"), format_),))

    async def scenario() -> None:
        at = kind.setting()
        allow = answering(b"", headers="X-User: jason\r\n")
        async with origin(at.pod, answering()) as seen, origin(at.authorizer, allow), at.mesh(tmp_path) as it:
            it.rule(
                *kind.policies, filters=Filters(request_edit=edit, response_edit=HeaderEdit(formatted=edit.formatted))
            )
            answer = await it.get(at.authority)

        assert status(answer) == 200
        assert b"\r\nx-user: " not in seen.heads[0]
        assert b"\r\nx-by: jason\r\n" in seen.heads[0]
        assert b"\r\nx-by: jason\r\n" in answer

    run(scenario())


@pytest.mark.parametrize(("kind", "expected"), [(POLICY, 418), (ROUTE, 200)], ids=["policy", "route"])
def test_what_is_decided_stays_and_what_is_not_goes_by_the_new_configuration(
    tmp_path: Path, kind: Kind, expected: int
) -> None:
    async def scenario() -> None:
        at, go_on = kind.setting(), asyncio.Event()

        async def allow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go_on.wait()
            await reply()(reader, writer)

        authorizer = origin(at.authorizer, scripted(allow))
        async with origin(at.pod, answering()), authorizer as asked, at.mesh(tmp_path) as it:
            it.rule(*kind.policies)
            got = asyncio.create_task(it.get(at.authority))
            await settled(lambda: len(asked.heads) == 1)
            it.rule(filters=Filters(direct=DirectResponse(418)))
            go_on.set()

            assert status(await asyncio.wait_for(got, 5)) == expected
            assert status(await it.get(at.authority)) == 418

    run(scenario())


class _Broken(Exception):
    """What no program should do, and some day does."""


@both_kinds
def test_a_step_that_fails_is_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    async def fail(*_: object) -> None:
        raise _Broken

    async def scenario() -> None:
        at = kind.setting()
        monkeypatch.setattr("waypoint.filters.external_auth.call", fail)
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            it.rule(*kind.policies)
            answer = await asyncio.wait_for(it.get(at.authority), 5)
            await settled(lambda: "internal_failure" in it.access_log)

        assert status(answer) == 500
        assert it.access_log.count("internal_failure") == 1
        assert not seen.heads

    run(scenario())
