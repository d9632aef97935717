"""Connections go to another process by real Unix sockets; here both ends are in one."""

import socket

import pytest

from l4.net.passing import PassedConnections, passage


def test_a_connection_arrives_with_its_addresses_and_carries_data() -> None:
    passer, there = passage()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        PassedConnections(there.detach(), ("10.0.0.1", 15008)) as passed,
    ):
        accepted, _ = server.accept()
        with accepted:
            assert passer.give(accepted)
        connection, peer = passed.accept()
        with connection:
            client.sendall(b"hello")

            assert connection.recv(5) == b"hello"
            assert peer == client.getsockname()
            assert passed.getsockname() == ("10.0.0.1", 15008)
            assert not connection.get_inheritable()
        with pytest.raises(BlockingIOError):
            passed.accept()
    passer.close()


def test_one_that_does_not_fit_or_has_nobody_to_take_it_is_not_given() -> None:
    passer, there = passage()
    with socket.create_server(("127.0.0.1", 0)) as it:
        assert passer.give(it)
        while passer.give(it):
            pass
        there.close()
        assert not passer.give(it)
    passer.close()
