"""TLS towards an application outside the mesh that wants it: contexts, and whom the certificate must name.

A context is made once for each configuration, in a thread, because it reads files. What can't be made or verified fails
closed: the attempt ends with a sentence, and nothing is sent.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from cryptography import x509

from policies.upstream_tls import UpstreamTls

_MAX_CONTEXTS = 256
_CHECKS = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
"""The same on every Python. From 3.13 on Python itself also asks for extensions that many private authorities leave out
(VERIFY_X509_STRICT). Envoy doesn't; and, as here, a trusted intermediate authority may end the chain there."""


class InvalidTls(Exception):
    """Says what can't be read, or what the server's certificate lacks."""


def client_context(authorities: str = "") -> ssl.SSLContext:
    """Believes those authorities, else the machine's. Reads files: not for the event loop's thread. Raises OSError."""
    context = ssl.create_default_context(cafile=authorities or None)
    context.verify_flags = _CHECKS
    return context


class TlsContexts:
    def __init__(self) -> None:
        self._contexts: dict[UpstreamTls, ssl.SSLContext] = {}

    async def get(self, tls: UpstreamTls) -> ssl.SSLContext:
        """Raises InvalidTls."""
        context = self._contexts.get(tls)
        if context is None:
            context = await asyncio.to_thread(_context, tls)
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            self._contexts[tls] = context
        return context


def _context(tls: UpstreamTls) -> ssl.SSLContext:
    try:
        context = client_context(tls.ca_certificates)
        if tls.client_certificate:
            context.load_cert_chain(tls.client_certificate, tls.private_key or None)
    except OSError as error:
        files = ", ".join(filter(None, (tls.ca_certificates, tls.client_certificate, tls.private_key)))
        sentence = f"{files or 'the roots'} can't be used for TLS to {tls.server_name}"
        raise InvalidTls(f"{sentence}: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"] if tls.is_http2 else ["http/1.1"])
    context.check_hostname = tls.is_verified and not tls.subject_alt_names
    context.verify_mode = ssl.CERT_REQUIRED if tls.is_verified else ssl.CERT_NONE
    return context


class Checking(asyncio.Protocol):
    """The first protocol of a TLS connection: looks at the certificate's names before anything is sent, then hands the
    connection over to that of `factory`. `checked` fails with InvalidTls."""

    def __init__(self, tls: UpstreamTls, factory: Callable[[], asyncio.Protocol]) -> None:
        self.checked: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self._tls = tls
        self._factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        tls = self._tls
        if tls.is_verified and tls.subject_alt_names:
            names = _names(connection.get_extra_info("ssl_object").getpeercert(binary_form=True))
            if names.isdisjoint(tls.subject_alt_names):
                wanted = ", ".join(tls.subject_alt_names)
                self.checked.set_exception(InvalidTls(f"the certificate of {tls.server_name} names none of {wanted}"))
                connection.abort()
                return
        protocol = self._factory()
        connection.set_protocol(protocol)
        protocol.connection_made(connection)
        self.checked.set_result(connection)


def _names(certificate: bytes) -> set[str]:
    """DNS names, URIs and addresses, as text."""
    try:
        extension = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return set()
    kinds = (x509.DNSName, x509.UniformResourceIdentifier)
    names = {str(name) for kind in kinds for name in extension.value.get_values_for_type(kind)}
    return names | {str(ip) for ip in extension.value.get_values_for_type(x509.IPAddress)}
