import socket
import sys
import time

import pytest

from l4.net.trial import accepts
from tests.kit.aio import run
from tests.kit.black_hole import black_hole


def test_an_address_that_somebody_listens_at_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run(accepts(server.getsockname(), 10))


def test_an_address_that_nobody_listens_at_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

    assert not run(accepts(address, 10))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_an_address_that_drops_who_connects_does_not_within_the_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with black_hole("127.0.0.1", port):
        began = time.monotonic()

        assert not run(accepts(("127.0.0.1", port), 0.2))

        assert time.monotonic() - began < 10


def test_the_own_address_can_be_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        assert run(accepts(server.getsockname(), 10, "127.0.0.7"))

        connection, peer = server.accept()
        connection.close()
        assert peer[0] == "127.0.0.7"
