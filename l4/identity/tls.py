"""The mesh's TLS: version 1.3 with ALPN `h2` and certificates on both sides. Nothing else is negotiable.

A context is created once per certificate, never per connection. There are no session tickets and no early data, so that
no session outlives its certificate. There is no SNI and no host name, because the SPIFFE ID identifies the peer. The
handshake alone is not sufficient: call `authenticate_client` or `authenticate_server` after it, and close the
connection if they raise. A TLS 1.3 client learns only from its first read that it was refused.

Connect with `create_connection(…, ssl=context, server_hostname="")`; the empty name omits SNI. Accept with `accept`,
which also delivers the alert that tells a refused client the reason.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from l4.identity.certificate import (
    Certificate,
    InvalidCertificate,
    InvalidPeer,
    UnreadableCertificate,
    expiry,
    verify_client,
    verify_server,
)
from l4.identity.revocation import Revocations
from l4.net import descriptors
from l4.net.descriptors import OutOfDescriptors
from policies.attributes import Identity

ALPN = "h2"


@dataclass(eq=False)
class NoCommonProtocol(InvalidPeer):
    selected: str | None

    def __str__(self) -> str:
        return f"the peer negotiated ALPN {self.selected!r}; HBONE needs {ALPN!r}"


class HandshakeRefused(ssl.SSLError):
    """OpenSSL refused the peer. The message is OpenSSL's; `alert` holds the bytes that tell the peer."""

    alert = b""


def server_context(certificate: Certificate, revocations: Revocations | None = None) -> ssl.SSLContext:
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _ServerConnection
    context.num_tickets = 0
    return _configured(context, certificate, revocations)


def client_context(certificate: Certificate, revocations: Revocations | None = None) -> ssl.SSLContext:
    return _configured(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, revocations)


def authenticate_client(connection: ssl.SSLObject, trust_domains: frozenset[str]) -> Identity:
    """Return the identity of the connected client. Raises InvalidPeer. Call it once, after the handshake."""
    return verify_client(_peer_certificate(connection), trust_domains)


def authenticate_server(connection: ssl.SSLObject, expected: frozenset[Identity]) -> Identity:
    """Return which of the expected workloads the server is. Raises InvalidPeer. Call it once, after the handshake."""
    return verify_server(_peer_certificate(connection), expected)


async def accept(
    protocol_factory: Callable[[], asyncio.Protocol],
    connection: socket.socket,
    context: ssl.SSLContext,
    handshake_seconds: float = 5,
) -> asyncio.Transport:
    """Run the server's handshake on an accepted socket, which this function then owns. Raises OSError if the handshake
    fails.

    Neither asyncio nor uvloop sends the alert of a failed handshake: they close, and the client does not learn the
    reason. A second descriptor keeps the socket open until the alert has been written.
    """
    loop = asyncio.get_running_loop()
    with connection.dup() as spare:
        if spare.fileno() >= descriptors.ceiling():
            raise OutOfDescriptors
        spare.setblocking(False)
        try:
            transport, _ = await loop.connect_accepted_socket(
                protocol_factory,
                connection,
                ssl=context,
                ssl_handshake_timeout=handshake_seconds,
                ssl_shutdown_timeout=handshake_seconds,
            )
        except HandshakeRefused as error:
            with suppress(OSError):
                spare.send(error.alert)
            raise
    return transport


class _ServerConnection(ssl.SSLObject):
    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            refused = HandshakeRefused(*error.args)
            refused.alert = self.outgoing.read()
            raise refused from error


class _ServerContext(ssl.SSLContext):
    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        connection = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        assert isinstance(connection, _ServerConnection)
        connection.outgoing = outgoing
        return connection


def peer_expires_at(connection: ssl.SSLObject) -> float:
    """Return the expiry of the peer's certificate, in seconds of the wall clock."""
    return expiry(_peer_certificate(connection))


def is_revoked(connection: ssl.SSLObject, revocations: Revocations) -> bool:
    """Whether the certificate of a connected peer is now revoked."""
    der = connection.getpeercert(binary_form=True)
    return der is None or revocations.has(der)


def _peer_certificate(connection: ssl.SSLObject) -> bytes:
    selected = connection.selected_alpn_protocol()
    if selected != ALPN:
        raise NoCommonProtocol(selected)
    der = connection.getpeercert(binary_form=True)
    if der is None:
        raise UnreadableCertificate("none was presented")
    return der


def _configured(context: ssl.SSLContext, certificate: Certificate, revocations: Revocations | None) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    try:
        context.load_verify_locations(cadata=certificate.trust_bundle_pem.decode("ascii", "replace"))
        with _in_memory(certificate.chain_pem, certificate.private_key.pem) as path:
            context.load_cert_chain(path)
        if revocations is not None:
            with _in_memory(revocations.pem) as path:
                context.load_verify_locations(path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (ssl.SSLError, ValueError) as error:
        raise InvalidCertificate(
            certificate.origin, f"OpenSSL rejects the certificate, key, trust bundle or revocation list: {error}"
        ) from error
    except OSError as error:  # we are out of descriptors or memory
        raise InvalidCertificate(certificate.origin, f"cannot be loaded now: {error.strerror or error}") from error
    return context


@contextmanager
def _in_memory(*parts: bytes) -> Iterator[str]:
    # The ssl module accepts only file names. An anonymous file keeps the key off the disk, and ensures that OpenSSL
    # reads what was checked, even if the original files change.
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(b"\n".join(parts))
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
