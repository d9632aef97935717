"""Outgoing connections, over real sockets. Those that fail are in `test_descriptors`."""

import asyncio
import socket

import pytest

from l4.net.listener import bind
from l4.net.sockets import connect, open_socket
from tests.kit.aio import run


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_a_connection_on_this_machine_is_there_without_waiting(ip: str) -> None:
    with bind(ip, 0) as listening:
        connecting = connect(listening.getsockname()[:2])

        with pytest.raises(StopIteration) as done:
            connecting.send(None)  # until it would wait

        with done.value.value as sock:
            assert sock.getpeername() == listening.getsockname()
            assert not sock.getblocking()


def test_a_connection_that_is_not_accepted_at_once_is_awaited() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
            address = listening.getsockname()
            first = await connect(address)  # fills the backlog
            connecting = asyncio.create_task(connect(address))
            await asyncio.sleep(0.1)
            assert not connecting.done()

            listening.accept()[0].close()

            async with asyncio.timeout(10):
                second = await connecting
            assert second.getpeername() == address
            first.close()
            second.close()

    run(scenario())


def test_a_sockets_family_and_type_are_those_of_any_socket() -> None:
    with open_socket("127.0.0.1") as ours, socket.socket() as other:
        assert (ours.family, ours.type, ours.proto) == (other.family, other.type, other.proto)
    with open_socket("::1") as ours:
        assert ours.family == socket.AF_INET6
