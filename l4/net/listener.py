"""Accept TCP connections: bind early, so that a port in use is reported at startup, and never spin without descriptors.

Traffic listeners accept and close connections when only the reserve of file descriptors is left, so that clients notice
at once.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable

from l4.net.descriptors import OUT_OF_FILES, ceiling
from l4.net.network import Network
from l4.net.sharing import HANDSHAKE_SECONDS, forget, is_shared, leave
from l4.net.sockets import Socket, open_socket
from policies.host_port import host_port

log = logging.getLogger(__name__)

_ACCEPTS_PER_TURN = 64
_BACKLOG = 1024


class CannotListen(Exception):
    """A socket cannot be opened. The message gives the address, the reason and the remedy."""

    def __init__(self, host: str, port: int, cause: OSError) -> None:
        super().__init__(f"cannot listen on {host_port(host, port)}: {_advice(cause)}")
        self.cause = cause


def bind(
    host: str,
    port: int,
    *,
    reuse_port: bool = False,
    listens: bool = True,
    network: Network | None = None,
    prepare: Callable[[socket.socket], None] = lambda sock: None,
) -> Socket:
    """Return a listening TCP socket, in `network` or the process's own namespace. Port 0 selects a free port.

    Without `listens`, it begins to listen when a Listener accepts from it. What is accepted from it inherits
    TCP_NODELAY, and the options that `prepare` sets. Raises CannotListen.
    """
    try:
        sock = open_socket(host, network)
    except OSError as error:
        raise CannotListen(host, port, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6 and network is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a listener of its own
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        prepare(sock)
        sock.bind((host, port))
        if listens:
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(host, port, error) from error
    return sock


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program uses this address; stop it or choose another port"
        case errno.EADDRNOTAVAIL:
            return "this machine does not have the address"
        case errno.EACCES:
            return "ports below 1024 require privileges; choose a higher port"
        case _:
            return error.strerror or str(error)


class Listener:
    """Passes each accepted socket, which is non-blocking, to `on_accept` with the peer's (ip, port).

    `on_refused` is called with "file_descriptors" for each rejected connection. With `is_reserved`, the listener may
    use the reserve, because it limits its connections itself. With `is_paused`, it accepts only after `resume`.
    """

    __slots__ = (
        "_has_left",
        "_is_closed",
        "_is_paused",
        "_is_reserved",
        "_loop",
        "_on_accept",
        "_on_refused",
        "_sock",
        "_spare",
    )

    def __init__(
        self,
        sock: Socket,
        on_accept: Callable[[socket.socket, tuple[str, int]], None],
        on_refused: Callable[[str], None] = lambda reason: None,
        *,
        is_reserved: bool = False,
        is_paused: bool = False,
    ) -> None:
        self._sock = sock
        self._on_accept = on_accept
        self._on_refused = on_refused
        self._is_reserved = is_reserved
        self._loop = asyncio.get_running_loop()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._is_closed = False
        self._is_paused = True
        self._has_left = False
        if not is_paused:
            self.resume()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return host, port

    @property
    def is_shared(self) -> bool:
        """Whether another process also listens at this address."""
        return not self._is_closed and is_shared(self._sock)

    def pause(self) -> None:
        """Leave new connections in the kernel's backlog for now."""
        if not self._is_paused and not self._is_closed:
            self._is_paused = True
            self._loop.remove_reader(self._sock)

    def resume(self) -> None:
        if self._is_paused and not self._is_closed:
            self._is_paused = False
            self._sock.listen(_BACKLOG)
            self._loop.add_reader(self._sock, self._readable)

    def leave(self) -> None:
        """Take no new connections, which go to another process's listener at this address if there is one.

        After `sharing.HANDSHAKE_SECONDS`, `finish` loses none.
        """
        if not self._is_closed:
            self._has_left = True
            leave(self._sock)

    def finish(self) -> None:
        """Close after accepting the connections that are already established, which closing would reset."""
        if not self._is_paused and not self._is_closed:
            while self._accept():
                pass
        self.close()

    def close(self) -> None:
        self.pause()
        if not self._is_closed:
            self._is_closed = True
            if self._has_left:
                forget(self._sock)
            self._sock.close()
            os.close(self._spare)

    def _readable(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Accept the next connection, or reject it. Returns False if there is none."""
        if self._is_paused or self._is_closed:
            return False
        try:
            sock, address = self._sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in OUT_OF_FILES:
                self._turn_away()
            return False
        if not self._is_reserved and sock.fileno() >= ceiling():
            sock.close()
            self._refused()
            return True
        self._on_accept(sock, address[:2])
        return True

    def _turn_away(self) -> None:
        """Use the spare descriptor to accept and close a connection, so that the client notices at once."""
        self._refused()
        os.close(self._spare)
        try:
            self._sock.accept()[0].close()
        except OSError:
            pass
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _refused(self) -> None:
        self._on_refused("file_descriptors")
        advice = "raise the nofile limit, or run more replicas"
        log.warning("no file descriptor is left for a connection to %s:%d; %s", *self.address, advice)


async def leave_to_successor(listeners: Iterable[Listener]) -> None:
    """Leave new connections to another process that listens at the same addresses, if there is one.

    Handshakes that have begun here have ended afterwards, so that `finish` resets none.
    """
    shared = [it for it in listeners if it.is_shared]
    for it in shared:
        it.leave()
    if shared:
        await asyncio.sleep(HANDSHAKE_SECONDS)
