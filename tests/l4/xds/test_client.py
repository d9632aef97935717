"""The client of incremental discovery, over TLS against a real gRPC server."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from l4._proto.workload_pb2 import Workload
from l4._proto.xds_pb2 import DeltaDiscoveryResponse
from l4.telemetry.metrics import MeshMetrics
from l4.xds.client import DeltaClient
from l4.xds.metrics import METRICS
from l4.xds.resource import Sent
from tests.kit.aio import run
from tests.kit.black_hole import black_hole
from tests.kit.discovery_server import ADDRESS, AUTHORIZATION, DiscoveryServer
from tests.kit.mesh import address


@dataclass
class Taken:
    """Takes all resources of a type, without those in `refuses`."""

    refuses: dict[str, str] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)
    calls: list[tuple[list[str], list[str]]] = field(default_factory=list)
    """The names of each response: changed and removed."""

    async def take(self, changed: Sequence[Sent], removed: Sequence[str]) -> Mapping[str, str]:
        self.calls.append((sorted(it.name for it in changed), sorted(removed)))
        self.sent |= {it.name: it.content for it in changed if it.name not in self.refuses}
        for name in removed:
            self.sent.pop(name, None)
        return {it.name: self.refuses[it.name] for it in changed if it.name in self.refuses}


@dataclass
class World:
    server: DiscoveryServer
    client: DeltaClient
    addresses: Taken
    authorizations: Taken

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the client tells nobody
                await asyncio.sleep(0.01)

    async def acknowledged(self, count: int, type_url: str = ADDRESS) -> None:
        """Wait until the client has answered this many responses on the newest stream, each after its request."""
        await self.until(lambda: self.server.streams and len(self.server.stream.of(type_url)) > count)


@asynccontextmanager
async def following(folder: Path, server: DiscoveryServer | None = None, **options: Any) -> AsyncIterator[World]:
    server = server or DiscoveryServer(folder)
    addresses, authorizations = Taken(), Taken()
    client = DeltaClient(server.server(), {ADDRESS: addresses, AUTHORIZATION: authorizations}, **options)
    task = asyncio.get_running_loop().create_task(client.run())
    try:
        yield World(server, client, addresses, authorizations)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def pods(*names: str, node: str = "") -> list[Workload]:
    return [Workload(uid=name, name=name, node=node) for name in names]


def test_all_resources_of_each_type_come_and_are_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it, it.server.serving():
            await it.server.put(*pods("a", "b"))
            await it.acknowledged(1)
            await it.acknowledged(1, AUTHORIZATION)

            assert it.addresses.calls == [(["a", "b"], [])]
            assert it.authorizations.calls == [([], [])]
            assert it.client.is_complete
            assert it.client.failure == ""
            assert it.client.silent_seconds == 0
            (stream,) = it.server.streams
            assert stream.metadata["authorization"] == "Bearer secret-1"
            assert stream.metadata["clusterid"] == "Kubernetes"
            first, ack = stream.of(ADDRESS)
            assert first.node.id == "ztunnel~1.1.1.1~z.ns~d"
            assert (list(first.resource_names_subscribe), first.response_nonce) == ([], "")
            assert (ack.response_nonce, ack.error_detail.message) == ("1", "")

    run(scenario())


def test_changes_and_removals_come_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it, it.server.serving():
            await it.server.put(*pods("a", "b"))
            await it.acknowledged(1)
            await it.server.put(*pods("b", "c", node="n"))
            await it.server.remove(ADDRESS, "a")
            await it.acknowledged(3)

            assert it.addresses.calls[1:] == [(["b", "c"], []), ([], ["a"])]
            assert sorted(it.addresses.sent) == ["b", "c"]

    run(scenario())


def test_what_cannot_be_taken_is_refused_by_name_and_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it, it.server.serving():
            it.addresses.refuses = {"b": "node: it is empty", "c": "name: it is odd"}
            await it.server.put(*pods("a", "b", "c"))
            await it.acknowledged(1)

            assert sorted(it.addresses.sent) == ["a"]
            assert it.server.stream.errors() == ["b: node: it is empty; c: name: it is odd"]
            assert it.server.stream.of(ADDRESS)[-1].error_detail.code == 3
            assert it.server.stream.of(ADDRESS)[-1].response_nonce == "1"

    run(scenario())


def test_of_many_refused_resources_the_first_are_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it, it.server.serving():
            it.addresses.refuses = {f"{number:02}": "no" for number in range(25)}
            await it.server.put(*pods(*it.addresses.refuses))
            await it.acknowledged(1)

            (error,) = it.server.stream.errors()
            assert error.count("no; ") == 20
            assert error.endswith("; and 5 more")

    run(scenario())


def test_after_a_lost_connection_only_the_difference_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        async with following(tmp_path, server) as it:
            it.addresses.refuses = {"odd": "name: it is odd"}
            async with server.serving():
                await server.put(*pods("a", "b", "odd"))
                await it.acknowledged(1)
                await it.acknowledged(1, AUTHORIZATION)
                versions = dict(it.server.stream.of(ADDRESS)[0].initial_resource_versions)
            await server.remove(ADDRESS, "a")
            await server.put(*pods("c"))
            assert sorted(it.addresses.sent) == ["a", "b"]

            async with server.serving():
                await it.until(lambda: len(server.streams) > 1)
                await it.acknowledged(1)

                assert versions == {}
                again = dict(server.stream.of(ADDRESS)[0].initial_resource_versions)
                assert sorted(again) == ["a", "b", "odd"]
                assert again["b"]
                assert again["odd"] == ""  # refused: it has to come again
                assert it.addresses.calls[-1] == (["c", "odd"], ["a"])
                assert sorted(it.addresses.sent) == ["b", "c"]

    run(scenario())


def test_a_stream_that_the_server_ends_is_no_failure(tmp_path: Path) -> None:
    async def scenario() -> None:
        failures: list[str] = []
        async with (
            following(tmp_path, on_change=lambda: failures.append(it.client.failure)) as it,
            it.server.serving(),
        ):
            await it.server.put(*pods("a"))
            await it.acknowledged(1)
            failures.clear()
            await it.server.end(grpc.StatusCode.UNAVAILABLE, "transport is closing")
            await it.until(lambda: len(it.server.streams) > 1)
            await it.acknowledged(1)

            assert failures == []

    run(scenario())


def test_while_the_server_is_away_the_failure_and_the_age_are_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        async with following(tmp_path, server) as it:
            async with server.serving():
                await server.put(*pods("a"))
                await it.acknowledged(1)
                await it.acknowledged(1, AUTHORIZATION)
            await it.until(lambda: "is not available" in it.client.failure)
            first = it.client.silent_seconds
            await it.until(lambda: it.client.silent_seconds > first)

            assert f"the discovery server {server.address}" in it.client.failure
            assert it.client.is_complete
            assert list(it.addresses.sent) == ["a"]

            async with server.serving():
                await it.until(lambda: it.client.failure == "")
                assert it.client.silent_seconds == 0

    run(scenario())


@pytest.mark.parametrize("garbage", [b"\xff", b"\x12\xff\xff", b"no protobuf at all"])
def test_bytes_that_are_no_response_end_the_stream_and_cost_nothing_else(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it, it.server.serving():
            await it.server.put(*pods("a"))
            await it.acknowledged(1)
            await it.acknowledged(1, AUTHORIZATION)
            await it.server.send(garbage)
            await it.until(lambda: len(it.server.streams) > 1)

            assert list(it.addresses.sent) == ["a"]

    with caplog.at_level(logging.INFO):
        run(scenario())

    assert "sent bytes that are no DeltaDiscoveryResponse" in caplog.text


def test_a_type_that_nobody_asked_for_is_acknowledged_and_ignored(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it, it.server.serving():
            await it.acknowledged(1)
            await it.server.send(DeltaDiscoveryResponse(type_url="type.googleapis.com/x.Y", nonce="n"))
            await it.acknowledged(0, "type.googleapis.com/x.Y")

            assert it.server.stream.errors("type.googleapis.com/x.Y") == []

    run(scenario())


def test_a_server_that_sends_but_what_nobody_asked_for_does_not_count_as_connected(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it:
            it.server.held.update((ADDRESS, AUTHORIZATION))
            async with it.server.serving():
                await it.until(lambda: it.server.streams and len(it.server.stream.requests) == 2)
                it.server.stream.is_over = True
                await it.server.send(DeltaDiscoveryResponse(type_url="type.googleapis.com/x.Y", nonce="n"))
                await it.until(lambda: len(it.server.streams) > 1)

                assert "has ended the stream" in it.client.failure

    run(scenario())


def test_it_can_be_cancelled_while_the_server_goes_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        for _ in range(10):  # gRPC drops one cancellation in five
            server = DiscoveryServer(tmp_path)
            client = DeltaClient(server.server(), {ADDRESS: Taken(), AUTHORIZATION: Taken()})
            task = asyncio.get_running_loop().create_task(client.run())
            server.held.update((ADDRESS, AUTHORIZATION))
            async with server.serving():
                while not server.streams or len(server.stream.requests) < 2:  # noqa: ASYNC110 - the client tells nobody
                    await asyncio.sleep(0.01)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=1)
            assert done
            assert task.cancelled()

    run(scenario(), 30)


def test_a_server_that_never_sends_a_type_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path, first_seconds=0.2) as it:
            it.server.held.add(AUTHORIZATION)
            async with it.server.serving():
                await it.until(lambda: len(it.server.streams) > 1)

                assert not it.client.is_complete

                it.server.held.clear()
                await it.until(lambda: it.client.is_complete)

    run(scenario())


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "does not accept the caller; the token {token} needs the audience istio-ca"),
        (grpc.StatusCode.PERMISSION_DENIED, "POD_NAMESPACE must be its namespace: not today (PERMISSION_DENIED)"),
        (grpc.StatusCode.INTERNAL, "ended the stream: not today (INTERNAL)"),
    ],
)
def test_a_refusal_says_what_to_look_at(tmp_path: Path, code: grpc.StatusCode, sentence: str) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it:
            it.server.refuses = code
            async with it.server.serving():
                await it.until(lambda: sentence.format(token=it.server.token_path) in it.client.failure)

    run(scenario())


def test_attempts_at_a_server_that_refuses_become_rare(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path) as it:
            it.server.refuses = grpc.StatusCode.UNAUTHENTICATED
            async with it.server.serving():
                begun = asyncio.get_running_loop().time()
                await it.until(lambda: len(it.server.streams) == 7)

                assert asyncio.get_running_loop().time() - begun > 0.5 * 0.01 * (2 + 4 + 8 + 16 + 32)

    run(scenario())


def test_token_and_roots_are_read_for_each_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        roots = server.pki.bundle_path.read_bytes()
        server.pki.bundle_path.write_bytes(b"no certificate")
        async with following(tmp_path, server) as it, server.serving():
            await it.until(lambda: "contains no valid PEM certificates" in it.client.failure)
            server.pki.bundle_path.write_bytes(roots)
            server.token_path.write_text("")
            await it.until(lambda: f"the token {server.token_path} is empty" in it.client.failure)
            server.token_path.write_text("secret-2")
            await it.until(lambda: it.client.is_complete)

            assert server.stream.metadata["authorization"] == "Bearer secret-2"

    run(scenario())


def test_a_server_whose_certificate_leads_to_no_root_is_not_spoken_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, other = DiscoveryServer(tmp_path), DiscoveryServer(tmp_path / "other")
        server.pki.bundle_path.write_bytes(other.pki.root_pem)
        async with following(tmp_path, server) as it, server.serving():
            await it.until(lambda: "its certificate must lead to a root in" in it.client.failure)

            assert server.streams == []

    run(scenario())


def counted(it: World) -> dict[str, int]:
    return {reason: value.value for reason, value in it.client.counts.terminations.items() if value.value}


def test_responses_and_the_ends_of_streams_are_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        async with following(tmp_path, server) as it:
            await it.until(lambda: counted(it).get("ConnectionError"))
            async with server.serving():
                await server.put(*pods("a"))
                await it.acknowledged(1)
                await it.acknowledged(1, AUTHORIZATION)
                metrics = MeshMetrics("ztunnel", "", METRICS)
                it.client.counts.show(metrics)
                text = metrics.render("")[0].decode()
                assert f'istio_xds_message_total{{url="{ADDRESS}"}} 1' in text
                assert f'istio_xds_message_bytes_total{{url="{ADDRESS}"}} {len(it.addresses.sent["a"])}' in text
                server.stream.is_over = True
                await server.put(*pods("b"))
                await it.until(lambda: counted(it).get("Complete") == 1)
                await it.until(lambda: len(server.streams) > 1 and server.stream.of(ADDRESS))
                await server.send(b"\xff")
                await it.until(lambda: counted(it).get("Error") == 1)

    run(scenario())


def test_a_server_that_drops_connections_is_a_failure_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        with black_hole(server.ip, 15012):
            async with following(tmp_path, server, connect_seconds=0.5) as it:
                await it.until(lambda: "accepted no request within 0.5 s" in it.client.failure)

    run(scenario())


def test_a_server_that_accepts_connections_and_says_nothing_is_a_failure_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)

        with socket.create_server((server.ip, 15012)):
            async with following(tmp_path, server, connect_seconds=0.5) as it:
                await it.until(lambda: "accepted no request within 0.5 s" in it.client.failure)

    run(scenario())


@asynccontextmanager
async def relay(of: DiscoveryServer, ip: str, is_frozen: asyncio.Event) -> AsyncIterator[None]:
    """Pass bytes on between clients of `ip` and the server, until it is frozen: connections then stay open, silent."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not is_frozen.is_set():
                writer.write(data)
        writer.close()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(of.ip, 15012)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer), return_exceptions=True)

    async with await asyncio.start_server(accepted, ip, 15012):
        yield


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_a_server_that_goes_silent_is_lost_after_forty_seconds(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, is_frozen = DiscoveryServer(tmp_path), asyncio.Event()
        through = replace(server.server(), address=f"{address()}:15012")
        it = DeltaClient(through, {ADDRESS: Taken(), AUTHORIZATION: Taken()})
        async with server.serving(through.address.partition(":")[0]), relay(server, through.address[:-6], is_frozen):
            following = asyncio.get_running_loop().create_task(it.run())
            async with asyncio.timeout(60):
                while not it.is_complete:  # noqa: ASYNC110 - the client tells nobody
                    await asyncio.sleep(0.01)
                is_frozen.set()
                begun = asyncio.get_running_loop().time()
                while not it.silent_seconds:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                assert asyncio.get_running_loop().time() - begun < 45
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    run(scenario(), 100)


# -- on demand ---------------------------------------------------------------------------------------------------------

ON_DEMAND = {"on_demand": frozenset({ADDRESS})}


def test_on_demand_nothing_comes_but_what_somebody_wants(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path, **ON_DEMAND) as it, it.server.serving():
            await it.server.put(*pods("a", "b"))
            await it.until(lambda: it.client.is_complete)
            first = it.server.stream.of(ADDRESS)[0]
            assert (list(first.resource_names_subscribe), list(first.resource_names_unsubscribe)) == (["*"], ["*"])
            assert it.addresses.sent == {}

            assert await it.client.want(ADDRESS, "a", 5)
            assert list(it.addresses.sent) == ["a"]
            await it.server.put(*pods("a", "b", node="n"))
            await it.until(lambda: len(it.addresses.calls) == 3)
            assert it.addresses.calls[-1] == (["a"], [])

            await it.client.unwant(ADDRESS, "a")
            await it.until(lambda: not it.server.stream.wanted)

    run(scenario())


def test_on_demand_another_key_of_a_resource_is_an_answer_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path, **ON_DEMAND) as it, it.server.serving():
            await it.server.put(Workload(uid="a", addresses=[bytes([10, 0, 0, 1])]))
            await it.until(lambda: it.client.is_complete)

            assert await it.client.want(ADDRESS, "/10.0.0.1", 5)
            assert list(it.addresses.sent) == ["a"]

    run(scenario())


def test_on_demand_what_does_not_exist_is_answered_and_may_come_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with following(tmp_path, **ON_DEMAND) as it, it.server.serving():
            await it.until(lambda: it.client.is_complete)

            assert await it.client.want(ADDRESS, "a", 5)
            assert it.addresses.calls[-1] == ([], ["a"])
            await it.server.put(*pods("a"))
            await it.until(lambda: "a" in it.addresses.sent)

    run(scenario())


def test_on_demand_a_new_stream_asks_for_all_that_is_wanted(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = DiscoveryServer(tmp_path)
        async with following(tmp_path, server, **ON_DEMAND) as it:
            async with server.serving():
                await server.put(*pods("a", "b"))
                await it.until(lambda: it.client.is_complete)
                assert await it.client.want(ADDRESS, "a", 5)
            assert not await it.client.want(ADDRESS, "b", 0.1)
            async with server.serving():
                assert await it.client.want(ADDRESS, "b", 20)

                first = server.stream.of(ADDRESS)[0]
                assert list(first.resource_names_subscribe) == ["*", "a", "b"]
                versions = dict(first.initial_resource_versions)
                assert versions.keys() == {"a", "b"}
                assert (bool(versions["a"]), versions["b"]) == (True, "")

    run(scenario())
