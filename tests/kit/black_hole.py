"""An address at which the kernel drops new connections, as a firewall does: a listener with a full backlog."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def black_hole(ip: str, port: int) -> Iterator[None]:
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind((ip, port))
        listener.listen(0)
        for _ in range(2):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((ip, port))
        yield
