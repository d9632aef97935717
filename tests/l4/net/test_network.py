"""Sockets and programs in another network namespace, from a process that stays in its own."""

import os
import socket
import threading

import pytest

from l4.net.network import MARK, CommandFailed, Network, own
from l4.net.original import original_destination
from tests.kit.pod_network import namespace, needs_namespaces

pytestmark = needs_namespaces

ELSEWHERE = "10.98.0.1"


def here() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_a_socket_belongs_to_the_namespace_and_the_thread_does_not() -> None:
    home = here()
    with namespace() as (network, _):
        network.run(["ip", "address", "add", f"{ELSEWHERE}/32", "dev", "lo"])
        with network.socket(socket.AF_INET) as sock, socket.socket() as own_socket:
            sock.bind((ELSEWHERE, 0))
            with pytest.raises(OSError, match="Cannot assign"):
                own_socket.bind((ELSEWHERE, 0))
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == MARK
        assert not network.is_own
    assert here() == home


def test_the_thread_returns_whatever_fails_inside() -> None:
    home = here()
    with namespace() as (network, _):
        with pytest.raises(ZeroDivisionError), network.entered():
            _ = 1 // (here() - network.key[1])
        assert here() == home
        with pytest.raises(OSError, match="not supported"):
            network.socket(socket.AF_PACKET)
        assert here() == home
        with pytest.raises(CommandFailed, match="no-such-program cannot be run"):
            network.run(["no-such-program"])
        assert here() == home
        network.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            network.socket(socket.AF_INET)
        assert here() == home


def test_other_threads_stay_at_home() -> None:
    home, seen, inside = here(), list[int](), threading.Event()
    with namespace() as (network, _):

        def look() -> None:
            inside.wait(5)
            seen.append(here())

        thread = threading.Thread(target=look)
        thread.start()
        with network.entered():
            inside.set()
            thread.join()
    assert seen == [home]


def test_what_a_program_says_is_its_output_or_the_reason_of_its_failure() -> None:
    with namespace() as (network, _):
        assert network.run(["cat"], "said") == "said"
        with pytest.raises(CommandFailed, match=r"^sh -c echo why >&2; false failed: why$"):
            network.run(["sh", "-c", "echo why >&2; false"])


def test_two_descriptors_of_one_namespace_are_the_same_network() -> None:
    with namespace() as (network, process), namespace() as (other, _):
        again = Network(os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        assert again == network
        assert other != network
        assert Network(os.dup(own())).is_own
        again.close()


@pytest.mark.parametrize(("family", "wildcard", "to"), [("ip", "0.0.0.0", "10.98.0.7"), ("ip6", "::", "fd98::7")])
def test_the_kernel_tells_where_a_redirected_connection_was_going(family: str, wildcard: str, to: str) -> None:
    rules = f"""
        table inet test {{
            chain leaving {{
                type nat hook output priority -100
                {family} daddr {to} tcp dport 80 redirect to :15001
            }}
        }}
    """
    with namespace() as (network, _):
        network.run(["ip", "link", "set", "lo", "up"])
        for address in ("10.98.0.1/24", "fd98::1/64"):
            network.run(["ip", "address", "add", address, "dev", "lo"])
        network.run(["nft", "-f", "-"], rules)
        kind = socket.AF_INET6 if ":" in to else socket.AF_INET
        with network.socket(kind) as listening, network.socket(kind) as client:
            listening.bind((wildcard, 15001))
            listening.listen()
            client.settimeout(5)
            client.connect((to, 80))
            accepted, _ = listening.accept()
            with accepted:
                assert original_destination(accepted) == (to, 80)


def test_without_a_redirection_the_destination_is_the_local_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert original_destination(accepted) == listening.getsockname()
