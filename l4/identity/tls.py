"""TLS as the mesh speaks it: version 1.3 with ALPN `h2`, both sides show a certificate, nothing else is negotiable.

A context is built once per certificate, never per connection. No session tickets and no early data, so that no
session outlives the certificate it was made with; no SNI and no host names, because the peer is who its SPIFFE ID
says. The handshake alone is not enough: ask `authenticate_client` or `authenticate_server` when it is done, and close
the connection when they raise. A client of TLS 1.3 learns that it was refused only from its first read.

Connect with `create_connection(…, ssl=context, server_hostname="")`: the empty name leaves SNI out. Accept with
`accept`, which also delivers the alert that tells a refused client why.
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
    """OpenSSL refused the peer; the message is OpenSSL's, `alert` the bytes that would tell the peer."""

    alert = b""


def server_context(certificate: Certificate, revocations: Revocations | None = None) -> ssl.SSLContext:
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _ServerConnection
    context.num_tickets = 0
    return _configured(context, certificate, revocations)


def client_context(certificate: Certificate, revocations: Revocations | None = None) -> ssl.SSLContext:
    return _configured(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, revocations)


def authenticate_client(connection: ssl.SSLObject, trust_domains: frozenset[str]) -> Identity:
    """Who connected to us; raises InvalidPeer. Call it once, after the handshake."""
    return verify_client(_peer_certificate(connection), trust_domains)


def authenticate_server(connection: ssl.SSLObject, expected: frozenset[Identity]) -> Identity:
    """Which of the expected workloads we reached; raises InvalidPeer. Call it once, after the handshake."""
    return verify_server(_peer_certificate(connection), expected)


async def accept(
    protocol_factory: Callable[[], asyncio.Protocol],
    connection: socket.socket,
    context: ssl.SSLContext,
    handshake_seconds: float = 5,
) -> asyncio.Transport:
    """Do the server's handshake on an accepted socket, which is ours from here on; raises OSError when it fails.

    Neither asyncio nor uvloop writes the alert of a handshake that failed: they close, and the client has no idea
    why. A second descriptor of the socket outlives their close by as long as that one write takes.
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
    """Until when the peer's certificate counts, in seconds of the wall clock."""
    return expiry(_peer_certificate(connection))


def is_revoked(connection: ssl.SSLObject, revocations: Revocations) -> bool:
    """Whether the peer, accepted once, would no longer be."""
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
            certificate.origin, f"OpenSSL refuses it, its key, its bundle or its revocations: {error}"
        ) from error
    except OSError as error:  # for want of descriptors or memory of ours
        raise InvalidCertificate(certificate.origin, f"cannot be loaded now: {error.strerror or error}") from error
    return context


@contextmanager
def _in_memory(*parts: bytes) -> Iterator[str]:
    # The ssl module takes file names only. An anonymous file keeps the key off the disk, and what was checked when it
    # was loaded is what OpenSSL reads, however the files change meanwhile.
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(b"\n".join(parts))
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
