"""Retries through a whole mesh: real tunnels, and origins that refuse, hang, disconnect and fail."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from l4.hbone.errors import TunnelReset
from policies.retry import UNDELIVERED, Condition, RetryPolicy, retries_on_statuses
from policies.retry_budget import RetryBudget
from policies.timeout import Timeouts
from tests.kit.aio import run
from tests.kit.mesh import Mesh, address, manifests, mesh, settled, with_settings
from tests.kit.origin import Handler, Origin, answering, hang, origin, raw, reply, reset, scripted

ON_503 = retries_on_statuses([503], backoff=0.001)
UNAVAILABLE = reply("503 Service Unavailable", b"not now")
PORT = 9080


class Scene:
    """A mesh before one service, whose rule is the test's."""

    def __init__(self, it: Mesh, authority: str, seen: list[Origin]) -> None:
        self.mesh = it
        self.authority = authority
        self.seen = seen

    @property
    def heads(self) -> list[bytes]:
        return [head for seen in self.seen for head in seen.heads]

    @property
    def connections(self) -> int:
        return sum(seen.connections for seen in self.seen)

    @property
    def log(self) -> str:
        return self.mesh.access_log

    def counted(self, event: str) -> int:
        text = self.mesh.metrics.render("")[0].decode()
        found = re.search(rf'pywaypoint_cluster_events_total{{event="{event}",[^}}]*}} (\d+)', text)
        return int(found[1]) if found else 0

    def budget(self, budget: RetryBudget) -> None:
        snapshot = self.mesh.holder.current
        clusters = {name: replace(config, retry_budget=budget) for name, config in snapshot.clusters.items()}
        self.mesh.clusters.reconcile(replace(snapshot, clusters=clusters))

    async def get(self, path: str = "/", headers: str = "") -> tuple[int, bytes]:
        return parsed(await self.mesh.get(self.authority, path, headers))

    async def post(self, body: bytes = b"abc", headers: str = "") -> tuple[int, bytes]:
        reader, writer = await self.mesh.tunnel(self.authority)
        length = f"Content-Length: {len(body)}\r\n"
        writer.write(f"POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{length}{headers}\r\n".encode() + body)
        answer = await reader.read()
        writer.close()
        return parsed(answer)


def parsed(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


@asynccontextmanager
async def scene(
    folder: Path,
    *handlers: Handler,
    refusing: int = 0,
    retry: RetryPolicy | None = None,
    timeouts: Timeouts | None = None,
    port_name: str = "http",
    **settings: object,
) -> AsyncIterator[Scene]:
    """A pod for each handler, and as many as are `refusing` where nothing listens."""
    waypoint, vip = address(), address()
    pods = {f"app-{number}": address() for number in range(len(handlers) + refusing)}
    text = manifests(waypoint=waypoint, vip=vip, pods=pods).replace("name: http,", f"name: {port_name},")
    async with AsyncExitStack() as stack:
        seen = [
            await stack.enter_async_context(origin(ip, handler))
            for ip, handler in zip(pods.values(), handlers, strict=False)
        ]
        it = await stack.enter_async_context(mesh(folder, text, waypoint, with_settings(**settings)))
        result = Scene(it, f"{vip}:{PORT}", seen)
        it.rule(retry=retry, timeouts=timeouts or Timeouts())
        yield result


def test_a_response_that_is_tried_again_never_reaches_the_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, scripted(UNAVAILABLE, UNAVAILABLE, reply()), retry=ON_503) as it:
            assert await it.get() == (200, b"hello")

            await settled(lambda: '200 - via_upstream - "-"' in it.log)
            assert it.log.count("GET /") == 1
            counts = [re.search(rb"x-envoy-attempt-count: (\d)", head)[1] for head in it.heads]  # type: ignore[index]
            assert counts == [b"1", b"2", b"3"]
            assert it.connections == 1  # the rest of each response was read, so that its connection serves the next
            assert it.counted("upstream_rq_retry") == 2
            assert it.counted("upstream_rq_retry_backoff_exponential") == 2
            assert it.counted("upstream_rq_retry_success") == 1

    run(scenario())


def test_when_no_attempt_is_left_the_last_response_is_passed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, scripted(UNAVAILABLE), retry=ON_503) as it:
            assert await it.get() == (503, b"not now")

            await settled(lambda: "503 URX via_upstream" in it.log)
            assert len(it.heads) == 3
            assert it.counted("upstream_rq_retry_limit_exceeded") == 1
            assert it.counted("upstream_rq_retry_success") == 0

    run(scenario())


def test_a_request_that_is_sent_again_is_whole(tmp_path: Path) -> None:
    bodies = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            bodies.append(await reader.readexactly(50_000))
            step = UNAVAILABLE if len(bodies) == 1 else reply()
            await step(reader, writer)

    async def scenario() -> None:
        body = bytes(range(250)) * 200
        async with scene(tmp_path, handler, retry=ON_503) as it:
            assert await it.post(body) == (200, b"hello")

        assert bodies == [body, body]

    run(scenario())


def test_a_request_too_large_to_keep_gets_its_first_response(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, scripted(UNAVAILABLE, reply()), retry=ON_503, retry_buffer_bytes=1000) as it:
            assert await it.post(b"x" * 5000) == (503, b"not now")

            await settled(lambda: "503 - via_upstream" in it.log)

    run(scenario())


def test_a_request_outgrows_its_buffer_while_it_waits_and_is_held_back_there(tmp_path: Path) -> None:
    """The first attempt ends before the body has come; the body goes on while the next one is due."""
    steps = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal steps
        while True:
            await reader.readuntil(b"\r\n\r\n")
            steps += 1
            if steps > 1:
                await reader.readexactly(500_000)
            await (UNAVAILABLE if steps == 1 else reply())(reader, writer)

    async def scenario() -> None:
        retry = retries_on_statuses([503], backoff=0.3)
        async with scene(tmp_path, handler, retry=retry, retry_buffer_bytes=1000) as it:
            reader, writer = await it.mesh.tunnel(it.authority)
            writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 500000\r\n\r\n")
            await settled(lambda: it.counted("upstream_rq_retry") == 1)
            writer.write(b"x" * 500_000)

            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            writer.close()

    run(scenario())


@pytest.mark.parametrize(("size", "connections"), [(10_000, 1), (100_000, 2)])
def test_a_connection_is_kept_when_the_rest_of_its_response_is_short(
    tmp_path: Path, size: int, connections: int
) -> None:
    async def scenario() -> None:
        failing = reply("503 Service Unavailable", b"x" * size)
        retry = retries_on_statuses([503], backoff=0.1)
        async with scene(tmp_path, scripted(failing, reply()), retry=retry) as it:
            assert await it.get() == (200, b"hello")
            assert it.connections == connections

    run(scenario())


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(raw(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nabc"), id="stops"),
        pytest.param(raw(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n" + b"x" * 20_000), id="long"),
        pytest.param(reset(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nabc"), id="breaks off"),
    ],
)
def test_a_discarded_response_that_does_not_end_is_cut(tmp_path: Path, step: Handler) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, scripted(step, reply()), retry=ON_503) as it:
            assert await it.get() == (200, b"hello")

            await settled(lambda: it.seen[0].closed == 1)

    run(scenario())


def test_a_retry_goes_to_another_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        retry = replace(ON_503, attempts=1)
        async with scene(tmp_path, scripted(UNAVAILABLE), answering(), retry=retry) as it:
            assert {await it.get() for _ in range(20)} == {(200, b"hello")}

    run(scenario())


def test_a_retry_may_go_to_the_same_endpoint_where_that_is_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        retry = replace(ON_503, attempts=1, avoids_tried=False)
        async with scene(tmp_path, scripted(UNAVAILABLE), answering(), retry=retry) as it:
            assert {status for status, _ in [await it.get() for _ in range(100)]} == {200, 503}  # but for one in 10^12

    run(scenario())


@pytest.mark.parametrize("break_off", [b"", b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_without_a_policy_nothing_that_was_delivered_is_sent_again(tmp_path: Path, break_off: bytes) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, scripted(reset(break_off), reply())) as it:
            answer, _ = await it.post()
            await settled(lambda: "UC" in it.log)

            assert answer == 503
            assert len(it.heads) == 1

    run(scenario())


@pytest.mark.parametrize("break_off", [b"", b"HTTP/1.1 200 O"])
def test_a_policy_may_ask_for_a_second_delivery_after_a_reset(tmp_path: Path, break_off: bytes) -> None:
    async def scenario() -> None:
        retry = RetryPolicy(frozenset({Condition.RESET}), backoff=0.001)
        async with scene(tmp_path, scripted(reset(break_off), reply()), retry=retry) as it:
            assert await it.post() == (200, b"hello")
            assert len(it.heads) == 2

    run(scenario())


def test_a_response_that_has_begun_is_never_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        retry = RetryPolicy(frozenset(Condition), backoff=0.001)
        step = reset(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        async with scene(tmp_path, scripted(step, reply()), retry=retry) as it:
            reader, writer = await it.mesh.tunnel(it.authority)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")

            assert await reader.readexactly(5) == b"hello"
            with pytest.raises(TunnelReset):
                await reader.read()
            assert len(it.heads) == 1

    run(scenario())


def test_a_client_that_was_told_something_in_advance_gets_this_response(tmp_path: Path) -> None:
    async def scenario() -> None:
        step = raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        async with scene(tmp_path, scripted(step, reply()), retry=ON_503) as it:
            answer = await it.mesh.get(it.authority)

            assert answer.startswith(b"HTTP/1.1 103 ")
            assert b"HTTP/1.1 503 " in answer
            assert len(it.heads) == 1

    run(scenario())


def test_an_attempt_that_takes_too_long_gives_way_to_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        retry = RetryPolicy(frozenset({Condition.GATEWAY_ERROR}), backoff=0.001, per_try_timeout=0.5)
        async with scene(tmp_path, scripted(hang, reply()), retry=retry) as it:
            assert await it.get() == (200, b"hello")

            await settled(lambda: it.seen[0].closed == 1)  # a late response would find nobody
            assert it.counted("upstream_rq_per_try_timeout") == 1

    run(scenario())


@pytest.mark.parametrize("step", [hang, reset])
def test_a_route_that_retries_does_so_when_no_response_came(tmp_path: Path, step: Handler) -> None:
    async def scenario() -> None:
        retry = retries_on_statuses([500], backoff=0.001, per_try_timeout=0.5)
        async with scene(tmp_path, scripted(step, reply()), retry=retry) as it:
            assert await it.get() == (200, b"hello")

    run(scenario())


@pytest.mark.parametrize(
    ("conditions", "flags", "deliveries"),
    [(UNDELIVERED, "UT", 1), (frozenset({Condition.FIVE_XX}), "URX,UT", 3)],
)
def test_when_every_attempt_took_too_long_the_answer_is_504(
    tmp_path: Path, conditions: frozenset[Condition], flags: str, deliveries: int
) -> None:
    async def scenario() -> None:
        retry = RetryPolicy(conditions, backoff=0.001, per_try_timeout=0.3)
        async with scene(tmp_path, scripted(hang), retry=retry) as it:
            assert await it.get() == (504, b"upstream request timeout")

            await settled(lambda: f"504 {flags} upstream_per_try_timeout" in it.log)
            assert len(it.heads) == deliveries

    run(scenario())


def test_an_attempt_is_limited_up_to_its_head_only_and_from_the_end_of_the_request(tmp_path: Path) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        await asyncio.sleep(1)
        writer.write(b"lo")

    async def scenario() -> None:
        retry = RetryPolicy(frozenset({Condition.FIVE_XX}), per_try_timeout=0.8)
        async with scene(tmp_path, scripted(slow), retry=retry) as it:
            reader, writer = await it.mesh.tunnel(it.authority)
            writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 3\r\n\r\nab")
            await asyncio.sleep(1)
            writer.write(b"c")

            assert parsed(await reader.read()) == (200, b"hello")
            assert it.counted("upstream_rq_per_try_timeout") == 0
            writer.close()

    run(scenario())


def test_the_whole_exchange_ends_at_its_deadline_wherever_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        retry, timeouts = retries_on_statuses([503]), Timeouts(request=0.2)
        failing = reply("503 Service Unavailable", headers="Retry-After: 4\r\n")
        async with scene(tmp_path, scripted(failing), retry=retry, timeouts=timeouts) as it:
            assert await it.get() == (504, b"upstream request timeout")

            await settled(lambda: "504 UT response_timeout" in it.log)
            assert len(it.heads) == 1

    run(scenario())


def test_a_client_that_leaves_takes_the_next_attempt_along(tmp_path: Path) -> None:
    async def scenario() -> None:
        failing = reply("503 Service Unavailable", headers="Retry-After: 4\r\n")
        async with scene(tmp_path, scripted(failing), retry=retries_on_statuses([503])) as it:
            _, writer = await it.mesh.tunnel(it.authority)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            await settled(lambda: it.counted("upstream_rq_retry") == 1)
            [cluster] = [it.mesh.clusters[name] for name in it.mesh.holder.current.clusters]
            assert cluster.retries.under_way == 1
            writer.transport.abort()

            await settled(lambda: " DC " in it.log)
            assert cluster.retries.under_way == 0
            assert cluster.endpoints[0].active == 0

    run(scenario())


def test_who_asks_to_be_left_alone_for_a_moment_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        times = []

        async def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            times.append(asyncio.get_running_loop().time())
            await reply("503 Service Unavailable", headers="Retry-After: 1\r\n")(reader, writer)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            times.append(asyncio.get_running_loop().time())
            await reply()(reader, writer)

        async with scene(tmp_path, scripted(failing, answer), retry=ON_503) as it:
            assert await it.get() == (200, b"hello")
            assert times[1] - times[0] >= 1
            assert it.counted("upstream_rq_retry_backoff_ratelimited") == 1

    run(scenario())


def test_who_asks_to_be_left_alone_for_long_is_and_the_client_hears_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        failing = reply("503 Service Unavailable", headers="Retry-After: 60\r\n")
        async with scene(tmp_path, scripted(failing, reply()), retry=ON_503) as it:
            answer = await it.mesh.get(it.authority)

            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 60\r\n" in answer
            assert len(it.heads) == 1

    run(scenario())


def test_over_budget_the_response_is_passed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, scripted(UNAVAILABLE, reply()), retry=ON_503) as it:
            it.budget(RetryBudget(20, interval_seconds=10, min_concurrency=0))

            assert await it.get() == (503, b"not now")
            await settled(lambda: "503 UO via_upstream" in it.log)
            assert it.counted("upstream_rq_retry_overflow") == 1

    run(scenario())


def test_what_was_delivered_to_nobody_needs_no_budget(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, answering(), refusing=1) as it:
            it.budget(RetryBudget(0, min_concurrency=0))

            assert {await it.post() for _ in range(20)} == {(200, b"hello")}

    run(scenario())


async def _storm(it: Scene, clients: int, requests: int) -> None:
    async def client() -> None:
        reader, writer = await it.mesh.tunnel(it.authority)
        for _ in range(requests):
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(7) == b"not now"
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())


def test_an_endpoint_that_fails_everything_sees_a_fifth_more_than_was_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        failing = reply("503 Service Unavailable", b"not now", after=0.02)
        retry = retries_on_statuses([503], attempts=3)
        async with scene(tmp_path, scripted(failing), scripted(failing), retry=retry) as it:
            it.budget(RetryBudget(20, interval_seconds=60, min_concurrency=0))
            await _storm(it, 40, 10)

            assert 400 < len(it.heads) <= 480

    run(scenario())


def test_posts_meet_every_fault_and_none_is_delivered_twice(tmp_path: Path) -> None:
    """Endpoints that answer, fail, break off and close in the client's back, and one that refuses: 1200 requests."""
    steps = (
        reply(),
        reply(),
        UNAVAILABLE,
        reset(),
        reply(),
        reset(b"HTTP/1.1 2"),
        reply(headers="Connection: close\r\n"),
    )

    def troubled() -> Handler:
        count = 0

        async def step(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            await steps[count * 5 % len(steps)](reader, writer)
            if count % 7 == 0:
                writer.close()  # right after a response that had promised to keep the connection

        return scripted(step)

    async def client(it: Scene, number: int) -> None:
        reader, writer = await it.mesh.tunnel(it.authority)
        for request in range(60):
            writer.write(f"POST /{number}/{request} HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\nabc".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        writer.close()

    async def scenario() -> None:
        async with scene(tmp_path, troubled(), troubled(), troubled(), refusing=1) as it:
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(client(it, number))

            ledger = Counter(head.split(b" ", 2)[1] for head in it.heads)
            assert max(ledger.values()) == 1
            assert len(ledger) > 600

    run(scenario())


WISHES = "X-Envoy-Retry-On: 5xx\r\nX-Envoy-Max-Retries: 1\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 9000\r\n"


@pytest.mark.parametrize(("more", "deliveries"), [("", 2), ("X-Forwarded-For: 8.8.8.8\r\n", 1)])
def test_a_caller_of_the_mesh_may_ask_for_retries_and_nobody_sees_it_ask(
    tmp_path: Path, more: str, deliveries: int
) -> None:
    async def scenario() -> None:
        async with scene(tmp_path, scripted(UNAVAILABLE)) as it:
            assert await it.get(headers=WISHES + more) == (503, b"not now")

            assert len(it.heads) == deliveries
            assert b"x-envoy-retry-on" not in it.heads[0]
            assert b"x-envoy-max-retries" not in it.heads[0]
            assert (b"x-envoy-expected-rq-timeout-ms: 9000\r\n" in it.heads[0]) == (deliveries == 2)

    run(scenario())


async def _mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def test_an_attempt_that_waits_for_its_connection_too_long_is_over_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        retry = RetryPolicy(frozenset({Condition.FIVE_XX}), backoff=0.001, per_try_timeout=0.1)
        async with scene(tmp_path, _mute, retry=retry, port_name="http2") as it:
            assert await it.get() == (504, b"upstream request timeout")

            await settled(lambda: "504 URX,UT upstream_per_try_timeout" in it.log)
            [cluster] = [it.mesh.clusters[name] for name in it.mesh.holder.current.clusters]
            assert cluster.endpoints[0].active == 0

    run(scenario())
