import socket
import sys

import pytest

from l4.net.sharing import is_shared

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
