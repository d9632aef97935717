"""How TLS is spoken with an endpoint that wants it, beside or inside the mesh's own: DestinationRule's `tls`."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """`server_name` is asked for (SNI), and must be in the certificate unless `subject_alt_names` lists others. The
    paths are files of PEM; without `ca_certificates` the system's roots count. `is_http2` is what ALPN offers.
    `problem` says why none of it can be done: nothing is sent then. `host` is the name in place of `server_name` where
    each request has its own; it makes no other TLS of it, so that all of them share what is loaded from files."""

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
