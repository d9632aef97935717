"""TLS towards applications outside the mesh: contexts, and checks of the certificate's names.

A context is created once per configuration, in a thread because it reads files, and again when the files change. New
connections use the new context; existing ones continue. If a context cannot be created or a certificate cannot be
verified, the attempt fails with a message and nothing is sent. If changed files are invalid, the previous context stays
in use, but no longer than its client certificate is valid.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import cast

from cryptography import x509

from l4.config.status import Version, version_of
from l4.outside_tls import client_context
from policies.upstream_tls import UpstreamTls

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_MAX_CONTEXTS = 256
_MAX_TOLD = 3


class InvalidTls(Exception):
    """A file is invalid, or the server's certificate lacks a name. The message says which."""


@dataclass(slots=True)
class _Loaded:
    """A context with the versions of its files.

    `expires_at` is the expiry of its client certificate, in seconds of the wall clock.
    """

    context: ssl.SSLContext
    versions: tuple[Version, ...]
    expires_at: float


class TlsContexts:
    """Contexts, created on first use and again when one of their files has changed."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._loaded: dict[UpstreamTls, _Loaded] = {}
        self._failures: dict[UpstreamTls, str] = {}

    async def get(self, tls: UpstreamTls) -> ssl.SSLContext:
        """Raises InvalidTls."""
        loaded = self._loaded.get(tls)
        if loaded is None:
            loaded = await self._load(tls)
        if loaded.expires_at <= self._clock():
            raise InvalidTls(_expired(tls))
        return loaded.context

    def keep(self, wanted: Collection[UpstreamTls]) -> None:
        """Drop all other contexts."""
        for kept in (self._loaded, self._failures):
            for gone in kept.keys() - wanted:
                del kept[gone]

    async def watch(self, concern: Callable[[str], None]) -> None:
        """Follow the files until cancelled.

        If changed files are invalid, the previous context stays in use; the failure is logged once and reported to
        `concern`, which gets an empty text when there is none (any more).
        """
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for tls in await asyncio.to_thread(_changed, dict(self._loaded)):
                with suppress(InvalidTls):
                    await self._load(tls)
                    log.info("the files for TLS to %s have changed and are in use: %s", tls.server_name, _files(tls))
            now = self._clock()
            expired = (_expired(tls) for tls, it in self._loaded.items() if it.expires_at <= now)
            concern("\n".join(sorted({*self._failures.values(), *expired})[:_MAX_TOLD]))

    async def _load(self, tls: UpstreamTls) -> _Loaded:
        try:
            loaded = await asyncio.to_thread(_load, tls)
            if loaded.expires_at <= self._clock():
                raise InvalidTls(_expired(tls))
        except InvalidTls as error:
            sentence = f"{error}; those loaded before stay in use" if tls in self._loaded else str(error)
            if self._failures.get(tls) != sentence:
                log.warning("%s", sentence)
            self._failures[tls] = sentence
            raise
        self._failures.pop(tls, None)
        if len(self._loaded) >= _MAX_CONTEXTS:
            self._loaded.clear()
        self._loaded[tls] = loaded
        return loaded


def _changed(loaded: Mapping[UpstreamTls, _Loaded]) -> list[UpstreamTls]:
    return [tls for tls, it in loaded.items() if _versions(tls) != it.versions]


def _load(tls: UpstreamTls) -> _Loaded:
    versions = _versions(tls)  # taken first, so that the next check sees a change during the load
    return _Loaded(_context(tls), versions, _expiry(tls))


def _versions(tls: UpstreamTls) -> tuple[Version, ...]:
    return tuple(map(version_of, filter(None, (tls.ca_certificates, tls.client_certificate, tls.private_key))))


def _expiry(tls: UpstreamTls) -> float:
    """Return the expiry of the client certificate's chain."""
    if not tls.client_certificate:
        return inf
    try:
        chain = x509.load_pem_x509_certificates(Path(tls.client_certificate).read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidTls(f"{tls.client_certificate} is invalid: {error}") from None
    return min(it.not_valid_after_utc for it in chain).timestamp()


def _expired(tls: UpstreamTls) -> str:
    return f"{tls.client_certificate}, the client certificate for TLS to {tls.server_name}, expired; issue a new one"


def _files(tls: UpstreamTls) -> str:
    return ", ".join(filter(None, (tls.ca_certificates, tls.client_certificate, tls.private_key)))


def _context(tls: UpstreamTls) -> ssl.SSLContext:
    try:
        context = client_context(file=tls.ca_certificates or None)
        if tls.client_certificate:
            # An empty password, because OpenSSL would ask for that of an encrypted key on the terminal and block.
            context.load_cert_chain(tls.client_certificate, tls.private_key or None, password="")
    except OSError as error:
        sentence = f"{_files(tls) or 'the roots'} cannot be used for TLS to {tls.server_name}"
        raise InvalidTls(f"{sentence}: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"] if tls.is_http2 else ["http/1.1"])
    context.check_hostname = tls.is_verified and not tls.subject_alt_names
    context.verify_mode = ssl.CERT_REQUIRED if tls.is_verified else ssl.CERT_NONE
    return context


class Checking(asyncio.Protocol):
    """The first protocol of a TLS connection. It checks the certificate's names before anything is sent.

    It then hands the connection to the protocol of `factory`. `checked` fails with InvalidTls.
    """

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
                self.checked.set_exception(InvalidTls(f"the certificate of {tls.asked_name} contains none of {wanted}"))
                connection.abort()
                return
        protocol = self._factory()
        connection.set_protocol(protocol)
        protocol.connection_made(connection)
        self.checked.set_result(connection)


def _names(certificate: bytes) -> set[str]:
    """Return the certificate's DNS names, URIs and addresses as text."""
    try:
        extension = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        return set()
    kinds = (x509.DNSName, x509.UniformResourceIdentifier)
    names = {str(name) for kind in kinds for name in extension.value.get_values_for_type(kind)}
    return names | {str(ip) for ip in extension.value.get_values_for_type(x509.IPAddress)}
