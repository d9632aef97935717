"""DestinationRule (networking.istio.io), checked as istiod's validation would.

https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from l4.discovery.objects import Metadata, PortNumber


class ClientTLS(Struct, frozen=True, rename="camel"):
    """How a client of the host speaks TLS. ISTIO_MUTUAL is what tunnels do anyway."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    ca_certificates: str = ""
    client_certificate: str = ""
    private_key: str = ""
    credential_name: str = ""
    insecure_skip_verify: bool = False

    def __post_init__(self) -> None:
        files = (self.client_certificate, self.private_key)
        if self.mode == "MUTUAL" and not self.credential_name and not all(files):
            raise ValueError("mode MUTUAL needs clientCertificate and privateKey, or credentialName")
        if self.credential_name and any((*files, self.ca_certificates)):
            raise ValueError("credentialName stands for the files: keep one or the other")


class PortSelector(Struct, frozen=True):
    number: PortNumber


class PortTrafficPolicy(Struct, frozen=True):
    port: PortSelector
    tls: ClientTLS | None = None


class TrafficPolicy(Struct, frozen=True, rename="camel"):
    tls: ClientTLS | None = None
    port_level_settings: Annotated[tuple[PortTrafficPolicy, ...], Meta(max_length=4096)] = ()


class DestinationRuleSpec(Struct, frozen=True, rename="camel"):
    host: Annotated[str, Meta(min_length=1)]
    traffic_policy: TrafficPolicy = TrafficPolicy()


class DestinationRule(Struct, frozen=True):
    metadata: Metadata
    spec: DestinationRuleSpec
