"""What a call to a control plane such as istiod needs: the roots of its certificate, and a service account token.

Both files are read for each call or connection, because others replace them: the kubelet replaces the token.
"""

from pathlib import Path

from cryptography import x509

AUDIENCE = "istio-ca"
"""The audience of the token that istiod accepts, for certificates and for discovery."""

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # else gRPC waits a minute for the answer, whatever the line above says
    ("grpc.http2.max_pings_without_data", 0),  # else gRPC stops asking a stream that is idle for long
    ("grpc.enable_http_proxy", 0),  # a proxy for the Internet does not know the cluster
    ("grpc.use_local_subchannel_pool", 1),  # a new channel must not share a connection made with old roots
)
"""For a gRPC channel, as ztunnel's."""


class CannotCall(Exception):
    """The token or the roots cannot be used. The message names the file."""


def read_token(path: Path) -> str:
    """Raises CannotCall."""
    try:
        token = path.read_bytes().strip().decode(errors="replace")
    except OSError as error:
        raise CannotCall(f"the token {path} cannot be read: {error.strerror}") from None
    if not token:
        raise CannotCall(f"the token {path} is empty")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise CannotCall(f"{path} does not contain a service account token, but other bytes")
    return token


def read_roots(path: Path, owner: str, known: bytes = b"") -> bytes:
    """Return the PEM certificates. `owner` names the server for the message; `known` are roots that were read before.

    Raises CannotCall.
    """
    try:
        roots = path.read_bytes()
        if roots != known:
            x509.load_pem_x509_certificates(roots)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it contains no valid PEM certificates"
        raise CannotCall(f"the roots {path} of {owner} cannot be used: {reason}") from None
    return roots
