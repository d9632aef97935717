"""TLS as the mesh speaks it: version 1.3 with ALPN `h2`, both sides show a certificate, nothing else is negotiable.

A context is built once per certificate, never per connection. No session tickets and no early data, so that no
session outlives the certificate it was made with; no SNI and no host names, because the peer is who its SPIFFE ID
says. The handshake alone is not enough: ask `authenticate_client` or `authenticate_server` when it is done, and close
the connection when they raise. A client of TLS 1.3 learns that it was refused only from its first read.

Under asyncio and uvloop pass `server_hostname=""` when connecting: it leaves SNI out.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from l4.identity.certificate import (
    Certificate,
    InvalidCertificate,
    InvalidPeer,
    UnreadableCertificate,
    verify_client,
    verify_server,
)
from policies.attributes import Identity

ALPN = "h2"


@dataclass(eq=False)
class NoCommonProtocol(InvalidPeer):
    selected: str | None

    def __str__(self) -> str:
        return f"the peer negotiated ALPN {self.selected!r}; HBONE needs {ALPN!r}"


def server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _configured(context, certificate)


def client_context(certificate: Certificate) -> ssl.SSLContext:
    return _configured(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)


def authenticate_client(connection: ssl.SSLObject, trust_domains: frozenset[str]) -> Identity:
    """Who connected to us; raises InvalidPeer. Call it once, after the handshake."""
    return verify_client(_peer_certificate(connection), trust_domains)


def authenticate_server(connection: ssl.SSLObject, expected: frozenset[Identity]) -> Identity:
    """Which of the expected workloads we reached; raises InvalidPeer. Call it once, after the handshake."""
    return verify_server(_peer_certificate(connection), expected)


def _peer_certificate(connection: ssl.SSLObject) -> bytes:
    selected = connection.selected_alpn_protocol()
    if selected != ALPN:
        raise NoCommonProtocol(selected)
    der = connection.getpeercert(binary_form=True)
    if der is None:
        raise UnreadableCertificate("none was presented")
    return der


def _configured(context: ssl.SSLContext, certificate: Certificate) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    try:
        context.load_verify_locations(cadata=certificate.trust_bundle_pem.decode("ascii", "replace"))
        with _in_memory(certificate.chain_pem, certificate.private_key_pem) as path:
            context.load_cert_chain(path)
    except ssl.SSLError as error:
        raise InvalidCertificate(
            certificate.chain_path, f"OpenSSL refuses it, its key or its bundle: {error}"
        ) from error
    return context


@contextmanager
def _in_memory(*parts: bytes) -> Iterator[str]:
    # The ssl module takes file names only. An anonymous file keeps the key off the disk, and what was checked when it
    # was loaded is what OpenSSL reads, however the files change meanwhile.
    with os.fdopen(os.memfd_create("certificate"), "wb") as file:
        file.write(b"\n".join(parts))
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"
