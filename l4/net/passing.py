"""Pass accepted connections to another process, as file descriptors over a Unix socket."""

import socket

from l4.net.sockets import Socket

_BYTE = b"."


def passage() -> tuple["Passer", socket.socket]:
    """Return an end that sends connections, and the socket of the receiving end, for `PassedConnections`."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setblocking(False)
    return Passer(here), there


class Passer:
    """The sending end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def give(self, connection: socket.socket) -> bool:
        """Pass a connection on, whose own descriptor the caller closes. False if the other process takes none now."""
        try:
            socket.send_fds(self._sock, [_BYTE], [connection.fileno()])
        except OSError:  # its queue is full, or it has gone
            return False
        return True

    def close(self) -> None:
        self._sock.close()


class PassedConnections(Socket):
    """The receiving end, in place of a listening socket. `address` is where the other process listens."""

    def __init__(self, descriptor: int, address: tuple[str, int]) -> None:
        super().__init__(fileno=descriptor)
        self.setblocking(False)
        self._address = address

    def accept(self) -> tuple[Socket, tuple[str, int]]:
        """Return the next connection, which is non-blocking, and its address. Raises OSError if there is none."""
        _, descriptors, _, _ = socket.recv_fds(self, len(_BYTE), 1)
        if not descriptors:
            raise BlockingIOError("the other process has gone, or no descriptor was left for the connection")
        connection = Socket(fileno=descriptors[0])
        connection.set_inheritable(False)
        connection.setblocking(False)
        try:
            host, port = connection.getpeername()[:2]
        except OSError:
            connection.close()
            raise
        return connection, (host, port)

    def listen(self, backlog: int = 0) -> None:
        """The other process listens."""

    def getsockname(self) -> tuple[str, int]:
        return self._address
