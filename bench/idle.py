"""What an idle client costs: tunnels through one HBONE connection, and HBONE connections without a tunnel."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.chain import System
from bench.steady import is_answered
from bench.wrk import Void

_SECONDS = 10
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_ACKNOWLEDGEMENT = b"\0\0\0\4\1\0\0\0\0"


@contextmanager
def tunnels(system: System, count: int) -> Iterator[None]:
    """So many clients that have been served once, for the block. Raises Void."""
    with ExitStack() as stack:
        try:
            for _ in range(count):
                sock = stack.enter_context(socket.create_connection(system.entry, _SECONDS))
                sock.sendall(system.requests.head)
                if not is_answered(sock):
                    raise Void(f"an answer through {system.name} was not 200")
        except OSError as error:
            raise Void(f"a client of {system.name} was not served: {error}") from error
        yield


@contextmanager
def connections(system: System, count: int) -> Iterator[None]:
    """So many HBONE connections whose settings are exchanged, for the block. Raises Void."""
    context = ssl.create_default_context(cafile=system.client.roots)
    context.check_hostname = False  # the name is a SPIFFE identity
    context.load_cert_chain(system.client.chain, system.client.key)
    context.set_alpn_protocols(["h2"])
    with ExitStack() as stack:
        try:
            for _ in range(count):
                plain = stack.enter_context(socket.create_connection(system.listen, _SECONDS))
                secure = stack.enter_context(context.wrap_socket(plain))
                secure.sendall(_PREFACE)
                if not secure.recv(4096):
                    raise Void(f"{system.name} ended an HBONE connection")
                secure.sendall(_ACKNOWLEDGEMENT)
        except OSError as error:
            raise Void(f"{system.name} refused an HBONE connection: {error}") from error
        yield
