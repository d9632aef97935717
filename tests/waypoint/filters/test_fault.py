"""Injected faults: delayed and aborted requests, through real tunnels."""

import asyncio
from pathlib import Path

import grpc
import pytest

from policies.fault import Abort, Delay, Fault
from policies.timeout import Timeouts
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, body, status
from tests.waypoint.test_grpc import _setting as grpc_setting


def test_an_aborted_request_never_reaches_the_endpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            it.rule(Fault(abort=Abort(503, 1.0)))
            answer = await it.get(at.authority)
            await settled(lambda: "503 FI fault_filter_abort" in it.access_log)

        assert status(answer) == 503
        assert body(answer) == b"fault filter abort"
        assert not seen.heads

    run(scenario())


def test_a_delayed_request_arrives_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            it.rule(Fault(Delay(0.2, 1.0)))
            reader, writer = await it.tunnel(at.authority)
            began = asyncio.get_running_loop().time()
            writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 11\r\nConnection: close\r\n\r\nhello ")
            await settled(lambda: it.path.exchanges == 1)
            writer.write(b"world")
            answer = await reader.read()
            took = asyncio.get_running_loop().time() - began
            await settled(lambda: " 200 DI via_upstream" in it.access_log)
            writer.close()

        assert status(answer) == 200
        assert took >= 0.2
        assert seen.bodies == [b"hello world"]

    run(scenario())


def test_the_delay_does_not_count_against_the_timeout(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path) as it:
            it.rule(Fault(Delay(0.5, 1.0)), timeouts=Timeouts(0.4))
            answer = await it.get(at.authority)

        assert status(answer) == 200

    run(scenario())


def test_a_client_that_leaves_while_it_waits_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            it.rule(Fault(Delay(60.0, 1.0)))
            _, writer = await it.tunnel(at.authority)
            writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
            await settled(lambda: it.path.exchanges == 1)
            writer.transport.abort()
            await settled(lambda: it.path.exchanges == 0 and " 0 DI,DC " in it.access_log)

        assert not seen.heads

    run(scenario())


def test_many_bytes_wait_at_the_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        at = Setting()
        size = 8 << 20
        async with origin(at.pod, answering()) as seen, at.mesh(tmp_path) as it:
            it.rule(Fault(Delay(0.3, 1.0)))
            reader, writer = await it.tunnel(at.authority)
            writer.write(b"POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
            writer.write(bytes(size))
            waiting = writer.transport.get_write_buffer_size()
            answer = await reader.read()
            writer.close()

        assert waiting > size // 2
        assert status(answer) == 200
        assert len(seen.bodies[0]) == size

    run(scenario())


@pytest.mark.parametrize(("abort", "code"), [(Abort(503, 1.0, 8), 8), (Abort(404, 1.0), 12)])
def test_a_grpc_client_gets_the_status_that_was_asked_for(tmp_path: Path, abort: Abort, code: int) -> None:
    async def scenario() -> None:
        async with grpc_setting(tmp_path) as it:
            it.mesh.rule(Fault(abort=abort))
            with pytest.raises(grpc.RpcError) as caught:
                await it.unary("Unary", b"hello")

            assert caught.value.code().value[0] == code
            assert caught.value.details() == "fault filter abort"
            assert not it.seen.metadata

    run(scenario())
