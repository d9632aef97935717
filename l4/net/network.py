"""Network namespaces of pods: sockets that a process opens in one stay there, and the process stays in its own.

A thread enters the namespace only for the system calls that open a socket or start a program. Nothing is awaited
meanwhile, so no other code of the event loop ever runs there.
"""

import ctypes
import logging
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

log = logging.getLogger(__name__)

MARK = 0x539
"""Marks packets of the proxy's own sockets, which the rules of redirection leave alone."""

_CLONE_NEWNET = 0x40000000
_IP_TRANSPARENT = 19
_IPV6_TRANSPARENT = 75
_IPV6_FREEBIND = 78
_IP_FREEBIND = 15
_COMMAND_SECONDS = 10.0


class CommandFailed(Exception):
    """A program that was run in a network namespace failed."""


class Network:
    """A network namespace. Owns the descriptor `fd`; closing it does not affect sockets that are already open."""

    def __init__(self, fd: int) -> None:
        own()  # while this thread is certainly at home
        self._fd = fd
        found = os.fstat(fd)
        self.key = found.st_dev, found.st_ino

    def __eq__(self, other: object) -> bool:
        """Whether both are the same namespace, whatever their descriptors."""
        return isinstance(other, Network) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def fd(self) -> int:
        return self._fd

    @property
    def is_own(self) -> bool:
        """Whether it is the namespace of this process."""
        home = os.fstat(own())
        return self.key == (home.st_dev, home.st_ino)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Surrounds code that this thread runs in the namespace. It must not await. Raises OSError."""
        home = own()
        _setns(self._fd)
        try:
            yield
        finally:
            try:
                _setns(home)
            except OSError:
                # Whatever this thread opened from now on would belong to the pod.
                log.critical("cannot return from a pod's network namespace; the process ends")
                os.abort()

    def socket(self, family: int) -> socket.socket:
        """Return a TCP socket of the namespace, whose packets are marked. Raises OSError."""
        with self.entered():
            sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        except OSError:
            sock.close()
            raise
        return sock

    def run(self, command: Sequence[str], text: str = "") -> str:
        """Run a program in the namespace, with `text` as its input, and return its output. Blocks.

        Raises CommandFailed.
        """
        try:
            with self.entered():
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
        except OSError as error:
            raise CommandFailed(f"{command[0]} cannot be run: {error.strerror or error}") from error
        with process:
            try:
                out, complaint = process.communicate(text, timeout=_COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise CommandFailed(f"{' '.join(command)} did not end within {_COMMAND_SECONDS:g} s") from None
        if process.returncode:
            raise CommandFailed(f"{' '.join(command)} failed: {complaint.strip()}")
        return out


@cache
def own() -> int:
    """Return a descriptor of this process's namespace, which stays open."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def set_transparent(sock: socket.socket) -> None:
    """Let the socket use addresses that the namespace does not have. Raises OSError."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)


_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
