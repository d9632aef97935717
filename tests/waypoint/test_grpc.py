"""gRPC through the whole mesh: the real grpcio on both ends."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Queue
from typing import TypeVar

import grpc
import pytest

from policies.retry import Condition, RetryPolicy
from tests.kit.aio import run
from tests.kit.front import http2_front
from tests.kit.grpc_echo import SERVICE, Seen, echo_server
from tests.kit.mesh import Mesh, address, manifests, mesh, settled

T = TypeVar("T")


class Setting:
    """A mesh before a gRPC service, and a client of it; calls block, so they run in threads."""

    def __init__(self, mesh: Mesh, seen: Seen, channel: grpc.Channel) -> None:
        self.mesh = mesh
        self.seen = seen
        self.channel = channel

    async def unary(self, method: str, message: bytes, **options: object) -> tuple[bytes, grpc.Call]:
        call = self.channel.unary_unary(f"/{SERVICE}/{method}")
        return await asyncio.to_thread(lambda: call.with_call(message, timeout=10, **options))  # type: ignore[arg-type]


@asynccontextmanager
async def _setting(folder: Path, *, more: str = "", pod_is_there: bool = True) -> AsyncIterator[Setting]:
    waypoint, vip, pod = address(), address(), address()
    text = manifests(waypoint=waypoint, vip=vip, pods={"app-1": pod}, more=more)
    text = text.replace("{name: http, port: 9080}", "{name: grpc, port: 9080}")
    with echo_server(pod if pod_is_there else address()) as seen:
        async with mesh(folder, text, waypoint) as it, http2_front(it, (vip, 9080)) as front:
            options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel("{}:{}".format(*front.at), options=options) as channel:
                yield Setting(it, seen, channel)
            await settled(lambda: it.path.exchanges == 0)


def test_a_unary_call_keeps_its_message_metadata_and_trailers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            answer, call = await it.unary(
                "Unary", b"hello", metadata=(("x-user", "jason"), ("x-data-bin", b"\x00\xff"))
            )

            assert answer == b"hello"
            assert ("x-trailer", "at the end") in call.trailing_metadata()
            [metadata] = it.seen.metadata
            assert (metadata["x-user"], metadata["x-data-bin"]) == ("jason", b"\x00\xff")
            await settled(lambda: "HTTP/2" in it.mesh.access_log)
            metrics = it.mesh.metrics.render("")[0].decode()
            assert 'request_protocol="grpc"' in metrics
            assert 'grpc_response_status="0"' in metrics

    run(scenario())


def test_messages_stream_in_every_direction(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            big = [b"x" * 100_000] * 20

            def calls() -> tuple[bytes, list[bytes], list[bytes]]:
                path = f"/{SERVICE}/"
                return (
                    it.channel.stream_unary(path + "Collect")(iter([b"a", b"b", b"c"]), timeout=10),
                    list(it.channel.unary_stream(path + "Repeat")(b"500", timeout=10)),
                    list(it.channel.stream_stream(path + "Chat")(iter(big), timeout=10)),
                )

            collected, repeated, chatted = await asyncio.to_thread(calls)

            assert collected == b"a,b,c"
            assert repeated == [b"500"] * 500
            assert chatted == big
            metrics = it.mesh.metrics.render("")[0].decode()
            counts = dict(re.findall(r"(istio_\w+_messages)_total\{.*\} (\d+)", metrics))
            assert counts == {"istio_request_messages": "24", "istio_response_messages": "521"}
            assert (
                'destination_service_name="app"'
                in metrics.partition("istio_request_messages_total{")[2].partition("}")[0]
            )

    run(scenario())


def test_each_message_of_a_conversation_is_answered_before_the_next_is_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            questions: Queue[bytes | None] = Queue()

            def chat() -> list[bytes]:
                answers = it.channel.stream_stream(f"/{SERVICE}/Chat")(iter(questions.get, None), timeout=10)
                heard = []
                for number in range(5):
                    questions.put(b"%d" % number)
                    heard.append(next(answers))
                questions.put(None)
                return heard + list(answers)

            assert await asyncio.to_thread(chat) == [b"0", b"1", b"2", b"3", b"4"]

    run(scenario())


def test_an_error_of_the_service_arrives_as_it_was_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            with pytest.raises(grpc.RpcError) as error:
                await it.unary("Fail", b"")

            assert error.value.code() is grpc.StatusCode.NOT_FOUND
            assert error.value.details() == "no such thing: 100 %"

    run(scenario())


def test_without_a_healthy_endpoint_the_caller_is_told_unavailable(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, pod_is_there=False) as it:
            with pytest.raises(grpc.RpcError) as error:
                await it.unary("Unary", b"")

            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "remote connection failure" in error.value.details()

    run(scenario())


ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo}
spec:
  parentRefs: [{group: "", kind: Service, name: app}]
  rules:
  - matches: [{path: {type: Exact, value: /echo.Echo/Unary}}]
    backendRefs: [{name: app, port: 9080}]
  - matches: [{path: {type: Exact, value: /echo.Echo/Hang}}]
    timeouts: {request: 300ms}
    backendRefs: [{name: app, port: 9080}]
"""


def test_a_method_without_a_route_is_unimplemented(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, more=ROUTE) as it:
            await it.unary("Unary", b"")
            with pytest.raises(grpc.RpcError) as error:
                await it.unary("Fail", b"")

            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(scenario())


def _count(answers: Iterator[bytes]) -> tuple[int, grpc.StatusCode]:
    count = 0
    try:
        for _ in answers:
            count += 1
    except grpc.RpcError as error:
        return count, error.code()
    return count, grpc.StatusCode.OK


def test_a_route_caps_the_deadline_of_its_caller_and_the_service_hears_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path, more=ROUTE) as it:
            call = it.channel.unary_stream(f"/{SERVICE}/Hang")

            count, code = await asyncio.to_thread(lambda: _count(call(b"", timeout=20)))

            assert count == 1
            assert code is not grpc.StatusCode.OK
            await settled(lambda: it.seen.cancelled == 1)

    run(scenario())


def test_a_callers_own_deadline_reaches_the_service(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            await it.unary("Unary", b"")

            [left] = it.seen.seconds_left
            assert 0 < left < 11  # grpcio rounds up what it sends

    run(scenario())


def test_a_cancelled_call_is_cancelled_at_the_service(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:

            def cancel() -> None:
                answers = it.channel.unary_stream(f"/{SERVICE}/Hang")(b"", timeout=20)
                next(answers)
                answers.cancel()

            await asyncio.to_thread(cancel)

            await settled(lambda: it.seen.cancelled == 1)

    run(scenario())


def _together(call: Callable[[], T], times: int) -> list[T]:
    with ThreadPoolExecutor(times) as pool:
        return [it.result() for it in [pool.submit(call) for _ in range(times)]]


def test_calls_of_many_share_one_connection_to_the_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            call = it.channel.unary_unary(f"/{SERVICE}/Unary")

            answers = await asyncio.to_thread(lambda: _together(lambda: call(b"hello", timeout=10), 20))

            assert answers == [b"hello"] * 20
            opened = re.findall(
                r"istio_tcp_connections_opened_total\{.*\} (\d+)", it.mesh.metrics.render("")[0].decode()
            )
            assert opened == ["1"]

    run(scenario())


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_an_unavailable_service_is_called_again_where_the_route_asks_for_it(tmp_path: Path, is_asked_for: bool) -> None:
    async def scenario() -> None:
        async with _setting(tmp_path) as it:
            if is_asked_for:
                it.mesh.rule(retry=RetryPolicy(frozenset({Condition.GRPC_UNAVAILABLE}), backoff=0.001))

            if is_asked_for:
                assert (await it.unary("Flaky", b"hello"))[0] == b"hello"
            else:
                with pytest.raises(grpc.RpcError, match="not now"):
                    await it.unary("Flaky", b"hello")
            assert len(it.seen.metadata) == 1 + is_asked_for

    run(scenario())
