"""Listening and accepting, over real sockets."""

import asyncio
import os
import resource
import socket

import pytest

from l4.net.listener import CannotListen, Listener, bind, leave_to_successor
from l4.net.sharing import HANDSHAKE_SECONDS
from l4.net.sockets import keep_alive
from tests.kit.aio import run
from tests.kit.mesh import settled


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CannotListen) as refusal:
            bind("127.0.0.1", port)

    assert f"cannot listen on 127.0.0.1:{port}: another program uses this address" in str(refusal.value)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0: this machine does not have the address"):
        bind("192.0.2.1", 0)


def test_two_processes_may_share_a_port_when_they_say_so() -> None:
    with bind("127.0.0.1", 0, reuse_port=True) as first:
        address = first.getsockname()

        with bind(*address, reuse_port=True) as second:
            assert second.getsockname() == address


def test_accepted_sockets_do_not_block_do_not_wait_to_send_and_inherit_what_was_prepared() -> None:
    async def scenario() -> None:
        accepted: asyncio.Queue[tuple[socket.socket, tuple[str, int]]] = asyncio.Queue()
        listening = bind("127.0.0.1", 0, prepare=lambda sock: keep_alive(sock, 70, 5))
        listener = Listener(listening, lambda *pair: accepted.put_nowait(pair))
        client = socket.create_connection(listener.address)

        sock, peer = await accepted.get()

        assert peer == client.getsockname()
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 70
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 70
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 5
        listener.close()
        sock.close()
        client.close()

    run(scenario())


def test_a_closed_listener_lets_nobody_in() -> None:
    async def scenario() -> None:
        listener = Listener(bind("127.0.0.1", 0), lambda sock, _: sock.close())
        address = listener.address

        listener.close()
        listener.close()

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

    run(scenario())


def test_a_paused_listener_leaves_connections_in_the_backlog() -> None:
    async def scenario() -> None:
        accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
        listener = Listener(bind("127.0.0.1", 0), lambda sock, _: accepted.put_nowait(sock))
        listener.pause()
        with socket.create_connection(listener.address):
            await asyncio.sleep(0.05)
            waiting = accepted.empty()

            listener.resume()
            sock = await accepted.get()

        assert waiting
        listener.close()
        sock.close()

    run(scenario())


def test_without_descriptors_a_client_is_turned_away_at_once() -> None:
    async def scenario() -> None:
        accepted: list[socket.socket] = []
        client = socket.socket()
        client.setblocking(False)
        listener = Listener(bind("127.0.0.1", 0), lambda sock, _: accepted.append(sock))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        fillers = _fill()
        try:
            await asyncio.get_running_loop().sock_connect(client, listener.address)
            heard = await asyncio.get_running_loop().sock_recv(client, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in fillers:
                os.close(descriptor)

        assert heard == b""
        assert not accepted
        listener.close()
        client.close()

    run(scenario())


def test_a_listener_begins_to_listen_when_it_accepts() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
        sock = bind("127.0.0.1", 0, listens=False)
        listener = Listener(sock, lambda sock, _: accepted.put_nowait(sock), is_paused=True)
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, listener.address)
        listener.resume()
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, listener.address)
            (await accepted.get()).close()
        listener.close()

    run(scenario())


def test_new_connections_are_left_to_a_successor_where_there_is_one() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[str] = []

        def accepting(name: str, sock: socket.socket) -> None:
            accepted.append(name)
            sock.close()

        old = Listener(bind("127.0.0.1", 0, reuse_port=True), lambda sock, _: accepting("old", sock))
        began = loop.time()
        await leave_to_successor([old])
        alone = loop.time() - began
        new = Listener(bind(*old.address, reuse_port=True), lambda sock, _: accepting("new", sock))

        await leave_to_successor([old])
        for _ in range(16):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, old.address)
        await settled(lambda: len(accepted) == 16)

        assert alone < HANDSHAKE_SECONDS <= loop.time() - began
        assert set(accepted) == {"new"}
        old.close()
        new.close()

    run(scenario())


def _fill() -> list[int]:
    fillers = []
    while True:
        try:
            fillers.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return fillers
