"""TLS towards an endpoint, in place of or inside the mesh's own mTLS: DestinationRule's `tls`."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """TLS options of one destination.

    - `server_name` is sent as SNI. The certificate must contain it, unless `subject_alt_names` lists other names.
    - The paths are PEM files. Without `ca_certificates`, the system's roots are trusted.
    - `is_http2` is offered through ALPN.
    - `problem` says why TLS is impossible; nothing is then sent.
    - `host` replaces `server_name` where each request has its own name. It is ignored in comparisons, so that all names
      share what is loaded from files.
    """

    server_name: str
    subject_alt_names: tuple[str, ...] = ()
    ca_certificates: str = ""
    client_certificate: str = ""
    private_key: str = ""
    is_verified: bool = True
    is_http2: bool = False
    problem: str = ""
    host: str = field(default="", compare=False)

    @property
    def asked_name(self) -> str:
        return self.host or self.server_name
