import os
import select
import socket
import sys

import pytest

from l4.net.sharing import forget, is_shared, leave
from tests.kit.pod_network import namespace, needs_namespaces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def listening(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    sock.listen()
    return sock


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_second_listener_at_the_same_address_is_noticed_while_it_is_there(
    family: socket.AddressFamily, host: str
) -> None:
    with listening(family, (host, 0)) as first:
        alone = is_shared(first)
        with listening(family, first.getsockname()[:2]):
            together = is_shared(first)

        assert (alone, together, is_shared(first)) == (False, True, False)


def test_a_listener_at_another_port_shares_nothing() -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as first, listening(socket.AF_INET, ("127.0.0.1", 0)):
        assert not is_shared(first)


def accepted(sock: socket.socket) -> int:
    """How many connections wait to be accepted."""
    sock.setblocking(False)
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_new_connections_go_to_the_second_listener_when_the_first_leaves(
    family: socket.AddressFamily, host: str
) -> None:
    with listening(family, (host, 0)) as first, listening(family, first.getsockname()[:2]) as second:
        leave(first)
        clients = [socket.create_connection(first.getsockname()[:2], 5) for _ in range(32)]

        assert (accepted(first), accepted(second)) == (0, 32)

        first.close()
        clients += [socket.create_connection(second.getsockname()[:2], 5) for _ in range(32)]
        assert accepted(second) == 32
        for client in clients:
            client.close()


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_second_listener_that_leaves_ignores_connections_which_then_reach_the_first(
    family: socket.AddressFamily, host: str
) -> None:
    with listening(family, (host, 0)) as first, listening(family, first.getsockname()[:2]) as second:
        leave(second)
        with socket.socket(family) as client:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.connect(first.getsockname())  # the kernel would have answered at once
            second.close()
            _, writable, _ = select.select([], [client], [], 10)

            assert writable
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert accepted(first) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can do without its privileges")
def test_a_listener_leaves_without_privileges_too() -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as first, listening(socket.AF_INET, first.getsockname()) as second:
        os.seteuid(65532)
        try:
            leave(first)  # newer kernels let only root attach one of both filters
        finally:
            os.seteuid(0)
        clients = [socket.create_connection(first.getsockname()) for _ in range(8)]

        assert (accepted(first), accepted(second)) == (0, 8)
        for client in clients:
            client.close()


def test_the_next_second_listener_shares_connections_after_a_first_one_has_left() -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as first:
        address = first.getsockname()[:2]
        with listening(socket.AF_INET, address) as second:
            leave(first)
            forget(first)
            first.close()
            with listening(socket.AF_INET, address) as third:
                clients = [socket.create_connection(address, 5) for _ in range(64)]

                assert accepted(second) > 0
                assert accepted(third) > 0
                for client in clients:
                    client.close()


def test_only_a_listener_that_can_share_its_address_leaves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unshared, listening(socket.AF_INET, ("127.0.0.1", 0)) as alone:
        leave(unshared)
        leave(alone)

        socket.create_connection(unshared.getsockname(), 5).close()
        with pytest.raises(TimeoutError):
            socket.create_connection(alone.getsockname(), 0.2)


_LATE = """
table inet late {{
    chain arriving {{
        type filter hook input priority 0
        tcp dport {port} tcp flags & (syn | ack) == ack drop
    }}
}}
"""


@needs_namespaces
def test_a_handshake_that_is_under_way_ends_at_the_listener_that_leaves() -> None:
    with namespace() as (network, _):
        network.run(["ip", "link", "set", "lo", "up"])
        with network.entered():
            first = listening(socket.AF_INET, ("127.0.0.1", 0))
        with first:
            port = first.getsockname()[1]
            network.run(["nft", "-f", "-"], _LATE.format(port=port))
            with network.socket(socket.AF_INET) as client:
                client.settimeout(5)
                client.connect(("127.0.0.1", port))  # the client has its answer, the listener waits for the last word
                assert accepted(first) == 0
                leave(first)
                network.run(["nft", "delete", "table", "inet", "late"])
                client.sendall(b"hello")

                first.settimeout(5)
                server, _ = first.accept()
                first.close()
                with server:
                    server.settimeout(5)
                    assert server.recv(16) == b"hello"
