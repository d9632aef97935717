"""Credentials for an API server, and the certificates that this process trusts.

Credentials change while the process runs: the kubelet replaces projected tokens, and exec plug-ins give an expiry.
`Credentials.current` reads them again when they are due. While reading fails, the secrets of before serve until they
expire or the server refuses them.
"""

import asyncio
import logging
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from l4.outside_tls import client_context

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0
"""Projected token files are read again after so long, as client-go does."""


class CredentialsError(Exception):
    """The credentials can't be had or used; the message names the place and how to mend it."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """PEM of a certificate chain and its private key."""

    chain: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secrets:
    """`token` goes into `Authorization: Bearer`; empty for none. `expires_at` is in seconds of the wall clock."""

    token: str = field(default="", repr=False)
    certificate: ClientCertificate | None = None
    expires_at: float | None = None


class Provider(Protocol):
    """Gives the secrets, and says for how many seconds they may be kept."""

    @property
    def keep_seconds(self) -> float: ...

    async def secrets(self) -> Secrets:
        """Raises CredentialsError."""


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token in a file that another program replaces, such as the kubelet."""

    path: Path
    keep_seconds: float = TOKEN_SECONDS

    async def secrets(self) -> Secrets:
        return Secrets(self.read())

    def read(self) -> str:
        """Raises CredentialsError."""
        try:
            token = self.path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(f"the token file {self.path} cannot be read: {error}") from None
        if not token:
            raise CredentialsError(f"the token file {self.path} is empty")
        return token


@dataclass(frozen=True, slots=True)
class Trust:
    """The server certificates that are accepted. None for `authorities` means those of the operating system; a path is
    read whenever a context is made. `server_name` replaces the address's host for the check."""

    authorities: bytes | Path | None = None
    server_name: str = ""
    is_verified: bool = True

    def context(self, certificate: ClientCertificate | None) -> ssl.SSLContext:
        """Raises CredentialsError."""
        try:
            context = client_context(text=self._authorities())
            if not self.is_verified:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if certificate is not None:
                _load(context, certificate)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise CredentialsError(f"the certificates for the API server cannot be used: {error}") from None
        return context

    def _authorities(self) -> str | None:
        """An empty file must not mean that the operating system's authorities are trusted."""
        if self.authorities is None:
            return None
        content = self.authorities if isinstance(self.authorities, bytes) else self.authorities.read_bytes()
        if text := content.decode("ascii", "ignore").strip():
            return text
        raise ValueError("there is no certificate of an authority")


class Credentials:
    """`server` is the API server's address, such as `https://10.96.0.1:443`."""

    def __init__(self, server: str, trust: Trust, provider: Provider, clock: Callable[[], float] = time.time) -> None:
        self.server = server.rstrip("/")
        self.trust = trust
        self._provider = provider
        self._clock = clock
        self._secrets: Secrets | None = None
        self._due = 0.0
        self._reading = asyncio.Lock()
        self._readings = 0
        self._failure: CredentialsError | None = None

    async def current(self) -> Secrets:
        """Raises CredentialsError when the secrets can't be read and those of before no longer serve.

        Whoever waits while they are read shares the result, a failure as well: a plug-in that hangs costs its deadline
        once.
        """
        readings = self._readings
        async with self._reading:
            if self._failure is not None and readings != self._readings:
                raise self._failure
            now = self._clock()
            if self._secrets is None or now >= self._due:
                self._secrets = await self._read(now)
            return self._secrets

    def refused(self, secrets: Secrets) -> None:
        """The server answered 401 to these secrets: they no longer serve."""
        if self._secrets is secrets:
            self._secrets = None

    async def _read(self, now: float) -> Secrets:
        self._failure = None
        try:
            secrets = _checked(await self._provider.secrets())
        except CredentialsError as error:
            if self._secrets is None or _has_expired(self._secrets, now):
                self._failure = error
                raise
            log.warning("credentials cannot be read again, and those of before serve for now: %s", error)
            secrets = self._secrets
        finally:
            self._readings += 1
        self._due = _due(secrets, now, self._provider.keep_seconds)
        return secrets


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Credentials:
    """The credentials of a pod's service account. Raises CredentialsError."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise CredentialsError("this process runs in no pod: KUBERNETES_SERVICE_HOST is not set; give --kubeconfig")
    trust, token = Trust(folder / "ca.crt"), TokenFile(folder / "token")
    trust.context(None)
    token.read()
    host = f"[{host}]" if ":" in host else host
    return Credentials(f"https://{host}:{port}", trust, token)


def _load(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """OpenSSL reads keys from files only; a temporary file has mode 0600. With an empty password it asks nobody."""
    with tempfile.NamedTemporaryFile(prefix="pywaypoint-") as file:
        file.write(certificate.chain + b"\n" + certificate.key)
        file.flush()
        context.load_cert_chain(file.name, password=b"")


def _checked(secrets: Secrets) -> Secrets:
    """A header can't carry every character."""
    if not secrets.token.isascii() or any(it <= " " or it == "\x7f" for it in secrets.token):
        raise CredentialsError("the token has spaces, line ends or characters that are not ASCII")
    return secrets


def _has_expired(secrets: Secrets, now: float) -> bool:
    return secrets.expires_at is not None and now >= secrets.expires_at


def _due(secrets: Secrets, now: float, keep_seconds: float) -> float:
    """When to read again: well before the expiry."""
    if secrets.expires_at is None:
        return now + keep_seconds
    return min(now + keep_seconds, now + max(1.0, 0.8 * (secrets.expires_at - now)))
