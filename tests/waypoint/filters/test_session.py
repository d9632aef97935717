"""Sessions through a whole mesh: clients stay with their endpoint while it exists, and change to another one then."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName, Peer, RequestHead
from policies.filters import Filters
from policies.opaque import OpaqueTable
from policies.path_match import PathMatch
from policies.retry import retries_on_statuses
from policies.route import Match, Route, RouteTable, Rule, WeightedBackend
from policies.session import SessionPersistence, cluster_mark
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh
from tests.kit.origin import answering, origin, reply, scripted
from waypoint.admission.decide import decide
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination

COOKIE = SessionPersistence(b"stay")
HEADER = SessionPersistence(b"x-stay", is_cookie=False)


@asynccontextmanager
async def scene(folder: Path, pods: int = 4) -> AsyncIterator[tuple[Mesh, str, list[str]]]:
    """Pods that answer with their number."""
    waypoint, vip = address(), address()
    ips = [address() for _ in range(pods)]
    text = manifests(waypoint=waypoint, vip=vip, pods={f"app-{number}": ip for number, ip in enumerate(ips)})
    async with AsyncExitStack() as stack:
        for number, ip in enumerate(ips):
            await stack.enter_async_context(origin(ip, answering(b"%d" % number)))
        yield await stack.enter_async_context(mesh(folder, text, waypoint)), f"{vip}:9080", ips


def token(answer: bytes) -> str | None:
    found = re.search(rb"(?:set-cookie: stay=|x-stay: )([0-9a-f.]+)", answer)
    return found[1].decode() if found else None


async def bodies(it: Mesh, authority: str, headers: str, times: int = 30, path: str = "/") -> Counter[bytes]:
    answers = [await it.get(authority, path, headers) for _ in range(times)]
    return Counter(answer[-1:] for answer in answers)


@pytest.mark.parametrize(("policy", "field"), [(COOKIE, "Cookie: stay=%s\r\n"), (HEADER, "X-Stay: %s\r\n")])
def test_a_client_stays_with_the_endpoint_that_answered_first(
    tmp_path: Path, policy: SessionPersistence, field: str
) -> None:
    async def scenario() -> None:
        async with scene(tmp_path) as (it, authority, _):
            it.rule(policy)
            first = await it.get(authority)
            kept = field % token(first)

            assert await bodies(it, authority, kept) == {first[-1:]: 30}
            assert token(await it.get(authority, headers=kept)) is None
            assert len(await bodies(it, authority, "")) > 1

    run(scenario())


def test_a_cookie_is_secure_where_the_clients_own_connection_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, 1) as (it, authority, _):
            it.rule(COOKIE)

            assert b"; HttpOnly; SameSite=Strict\r\n" in await it.get(authority)
            assert b"; Secure\r\n" in await it.get(authority, headers="X-Forwarded-Proto: https\r\n")

    run(scenario())


def test_when_the_endpoint_is_gone_the_session_begins_anew_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path) as (it, authority, ips):
            it.rule(COOKIE)
            first = await it.get(authority)
            gone = ips[int(first[-1:])]
            snapshot = it.holder.current
            clusters = {
                name: replace(config, endpoints=tuple(e for e in config.endpoints if e.ip != gone))
                for name, config in snapshot.clusters.items()
            }
            it.clusters.reconcile(replace(snapshot, clusters=clusters))

            second = await it.get(authority, headers=f"Cookie: stay={token(first)}\r\n")

            assert second[-1:] != first[-1:]
            assert token(second) not in {None, token(first)}

    run(scenario())


@pytest.mark.parametrize("forged", ["0" * 22, "10.0.0.1:9080", "../../etc", "f" * 22 + ".ffffffff.ffffffff"])
def test_a_forged_token_is_worth_nothing_and_replaced(tmp_path: Path, forged: str) -> None:
    async def scenario() -> None:
        async with scene(tmp_path) as (it, authority, _):
            it.rule(COOKIE)

            answer = await it.get(authority, headers=f"Cookie: stay={forged}\r\n")

            assert answer.startswith(b"HTTP/1.1 200 ")
            assert token(answer) not in {None, forged}

    run(scenario())


def test_the_sessions_of_two_rules_are_two(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path) as (it, authority, _):
            snapshot, destinations = it.holder.current, {}
            for key, destination in snapshot.destinations.items():
                rule = replace(destination.routes.routes[0].rule, filters=Filters(policies=(COOKIE,)))
                routes = RouteTable(
                    Route(Match(PathMatch(value=path)), replace(rule, name=path.decode())) for path in (b"/a", b"/b")
                )
                destinations[key] = replace(destination, routes=routes)
            it.holder.swap(replace(snapshot, destinations=destinations))
            kept = f"Cookie: stay={token(await it.get(authority, '/a'))}\r\n"

            assert len(await bodies(it, authority, kept, path="/a")) == 1
            assert len(await bodies(it, authority, kept, path="/b")) > 1

    run(scenario())


def test_a_retry_may_leave_the_session_and_the_client_hears_where_it_is_now(tmp_path: Path) -> None:
    async def scenario() -> None:
        waypoint, vip, failing, other = (address() for _ in range(4))
        text = manifests(waypoint=waypoint, vip=vip, pods={"app-0": failing, "app-1": other})
        steps = scripted(reply(body=b"0"), reply("503 Service Unavailable"))
        async with origin(failing, steps), origin(other, answering(b"1")), mesh(tmp_path, text, waypoint) as it:
            it.rule(COOKIE, retry=retries_on_statuses([503], backoff=0.001))
            while not (first := await it.get(f"{vip}:9080")).endswith(b"0"):
                pass  # chance picks the endpoint of a new session
            second = await it.get(f"{vip}:9080", headers=f"Cookie: stay={token(first)}\r\n")

            assert (first[-1:], second[-1:]) == (b"0", b"1")
            assert token(second) not in {None, token(first)}

    run(scenario())


def test_a_service_of_its_own_may_keep_sessions_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path) as (it, authority, _):
            snapshot = it.holder.current
            clusters = {name: replace(config, session=HEADER) for name, config in snapshot.clusters.items()}
            it.clusters.reconcile(replace(snapshot, clusters=clusters))
            first = await it.get(authority)

            assert await bodies(it, authority, f"X-Stay: {token(first)}\r\n") == {first[-1:]: 30}

    run(scenario())


def test_a_session_stays_with_its_backend_even_when_that_weighs_nothing_any_more() -> None:
    one, two = ClusterName("one"), ClusterName("two")
    rule = Rule("rule", (WeightedBackend(one, 0), WeightedBackend(two, 1)), filters=Filters(policies=(HEADER,)))
    routes = RouteTable([Route(Match(), rule)])
    destination = Destination(UNKNOWN_SERVICE, 9080, AppProtocol.HTTP, routes, OpaqueTable())

    def decided(*headers: tuple[bytes, bytes]) -> ClusterName | None:
        head = RequestHead(b"GET", b"app", b"/", b"", list(headers))
        return decide(destination, Peer(None, "10.0.0.1", 1), head, lambda chance: 0.5).cluster

    assert decided() == two
    assert decided((b"x-stay", cluster_mark(rule.scope, one) + b"0" * 16)) == one
    assert decided((b"x-stay", cluster_mark("another rule", one) + b"0" * 16)) == two
