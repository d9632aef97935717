"""A certificate authority that answers Istio's call, `istio.v1.auth.IstioCertificateService/CreateCertificate`.

The authority knows the caller by its service account token, whose audience is `istio-ca`. A ztunnel requests
certificates for the pods of its node: the request names the identity, and the authority decides whether to sign. The
last element of an answer is the bundle of roots. The others are the chain.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import grpc

from l4._proto.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from l4.control_plane import AUDIENCE, CHANNEL_OPTIONS, CannotCall, read_roots, read_token
from l4.identity.authority import AuthorityError, SignedChain
from l4.identity.options import AuthorityOptions
from l4.identity.signing import AuthoritySource
from l4.identity.signing_settings import DAY_SECONDS, SigningSettings
from policies.attributes import Identity

log = logging.getLogger(__name__)

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
IMPERSONATED_IDENTITY = "ImpersonatedIdentity"
REQUEST_SECONDS = 9.0
"""Less than a source waits for a signature, so that the failure names the authority."""
MAX_ANSWER_BYTES = 1 << 20
_OPTIONS = (
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 10_000),  # gRPC's own two minutes delay the first success after an outage
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
)


class IstioCa:
    """An `Authority` at `address`, which is `host:port`. Its certificate must lead to the roots at `root_path`.

    Both files are read for each request, because others replace them: the kubelet replaces the token. New roots get a
    new channel; the old channel closes after its last answer. Roots that cannot be read or parsed do not replace
    usable ones. A ztunnel `impersonates`.
    """

    def __init__(
        self,
        address: str,
        *,
        root_path: Path,
        token_path: Path,
        cluster_id: str,
        impersonates: bool = False,
        certificate_seconds: int = DAY_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._address = address
        self._root_path = root_path
        self._token_path = token_path
        self._cluster_id = cluster_id
        self._impersonates = impersonates
        self._certificate_seconds = certificate_seconds
        self._request_seconds = request_seconds
        self._channel: grpc.aio.Channel | None = None
        self._roots = b""
        self._root_failure = ""
        self._closing: set[asyncio.Task[None]] = set()

    async def sign(self, identity: Identity, csr_pem: bytes) -> SignedChain:
        """Raises AuthorityError."""
        request = IstioCertificateRequest(csr=csr_pem.decode(), validity_duration=self._certificate_seconds)
        if self._impersonates:
            request.metadata.update({IMPERSONATED_IDENTITY: str(identity)})
        try:
            token, channel = read_token(self._token_path), self._opened()
        except CannotCall as error:
            raise AuthorityError(str(error)) from None
        metadata = (("authorization", f"Bearer {token}"), ("clusterid", self._cluster_id))
        call = channel.unary_unary(
            METHOD, IstioCertificateRequest.SerializeToString, IstioCertificateResponse.FromString
        )
        try:
            answer = await call(request, metadata=metadata, timeout=self._request_seconds)
        except grpc.aio.AioRpcError as error:
            raise AuthorityError(self._sentence(error)) from None
        return _signed(self._address, answer.cert_chain)

    async def close(self) -> None:
        """End all requests."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _opened(self) -> grpc.aio.Channel:
        """Return a channel that trusts the current roots. Raises CannotCall."""
        try:
            roots = read_roots(self._root_path, "the certificate authority", self._roots)
        except CannotCall as error:
            if self._channel is None:
                raise
            if str(error) != self._root_failure:
                log.warning("%s; the previous roots stay in use", error)
            self._root_failure = str(error)
            return self._channel
        self._root_failure = ""
        if self._channel is None or roots != self._roots:
            if self._channel is not None:
                closing = asyncio.get_running_loop().create_task(self._channel.close(self._request_seconds))
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
            credentials = grpc.ssl_channel_credentials(root_certificates=roots)
            self._channel, self._roots = grpc.aio.secure_channel(self._address, credentials, _OPTIONS), roots
        return self._channel

    def _sentence(self, error: grpc.aio.AioRpcError) -> str:
        """Say what failed, and what to look at."""
        name, code, details = f"the certificate authority {self._address}", error.code(), error.details() or ""
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{name} did not answer within {self._request_seconds:g} s"
        said = f"{details} ({code.name})" if details else code.name
        if code is grpc.StatusCode.UNAVAILABLE:
            return f"{name} is not available; its certificate must lead to a root in {self._root_path}: {said}"
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return (
                f"{name} does not sign for the caller; the token {self._token_path} needs the audience {AUDIENCE}, "
                f"and a ztunnel's account must be a trusted node account: {said}"
            )
        return f"{name} refused the request: {said}"


def signed_by(
    options: AuthorityOptions,
    cluster_id: str,
    revocations: Path | None,
    settings: SigningSettings,
    *,
    impersonates: bool = False,
) -> AuthoritySource:
    """Return a source of certificates that this authority signs. An option overrides `cluster_id`."""
    authority = IstioCa(
        options.address,
        root_path=options.root,
        token_path=options.token,
        cluster_id=options.cluster_id or cluster_id,
        impersonates=impersonates,
        certificate_seconds=settings.certificate_seconds,
    )
    return AuthoritySource(authority, revocations)


def _signed(address: str, chain: Sequence[str]) -> SignedChain:
    if len(chain) < 2:
        raise AuthorityError(
            f"the certificate authority {address} sent no roots: an answer has the chain and then the roots, and this "
            f"one has {len(chain)} elements"
        )
    *own, roots = (f"{it.strip()}\n".encode() for it in chain)
    return SignedChain(b"".join(own), roots)
