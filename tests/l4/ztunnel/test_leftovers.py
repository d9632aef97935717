"""Everything of a connection through ztunnels is freed when it ends, without waiting for the garbage collector.

So the collector may run rarely."""

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from l4.hbone.tunnel import Tunnel
from l4.net.copy import Copy, Side, reset_on_close
from l4.ztunnel.traffic import Flow
from tests.kit.aio import run
from tests.kit.mesh import settled
from tests.kit.node import ask, world

KINDS = (Tunnel, Copy, Side, Flow)


def alive() -> list[object]:
    return [it for it in gc.get_objects() if isinstance(it, KINDS)]


def reset(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as sock:
        sock.sendall(b"hello")
        reset_on_close(sock)


@pytest.mark.parametrize("is_reset", [False, True], ids=["ended", "reset"])
def test_nothing_is_left_of_a_connection(tmp_path: Path, is_reset: bool) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as it:
            it.apply(it.known())
            gc.collect()
            gc.disable()
            others = set(map(id, alive()))

            if is_reset:
                await asyncio.to_thread(reset, it.entry)
                await settled(lambda: bool(it.counted("istio_tcp_connections_closed", "destination")))
            else:
                assert await ask(it.entry, b"hello") == b"hello|end"
            await settled(lambda: it.node.traffic.open_count == 0)

            await settled(lambda: all(id(it) in others for it in alive()))

    try:
        run(scenario())
    finally:
        gc.enable()
