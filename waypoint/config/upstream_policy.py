"""What DestinationRules ask for, written into the configuration of a cluster."""

from dataclasses import replace

from l4.discovery.workload import AppProtocol, Service, ServicePort
from policies.upstream_tls import UpstreamTls
from waypoint.config.destination_rule import DestinationRules, Part
from waypoint.config.istio import Subset
from waypoint.config.snapshot import ClusterConfig
from waypoint.config.traffic_policy import ClientTLS

_HTTP2 = frozenset({AppProtocol.HTTP2, AppProtocol.GRPC, AppProtocol.GRPC_WEB})
_NO_SECRETS = "secrets are not read, and nothing is sent; give caCertificates, clientCertificate, privateKey as files"


class UpstreamPolicies:
    def __init__(self, rules: DestinationRules) -> None:
        self._rules = rules

    def applied(
        self, config: ClusterConfig, service: Service, port: ServicePort, subset: tuple[Subset, Part] | None
    ) -> ClusterConfig:
        """The cluster with all that the rules say of it."""
        policy = self._rules.policy(service, port, subset)
        if policy.tls is not None:
            tls, part = policy.tls
            config = replace(config, tls=self._tls(tls, part, config))
        return config

    def _tls(self, tls: ClientTLS, part: Part, config: ClusterConfig) -> UpstreamTls | None:
        if tls.mode in {"DISABLE", "ISTIO_MUTUAL"}:
            return None
        if tls.credential_name:
            self._rules.problems.append(part.problem("credentialName", _NO_SECRETS))
        return UpstreamTls(
            server_name=tls.sni or config.service.hostname,
            subject_alt_names=tls.subject_alt_names,
            ca_certificates=tls.ca_certificates,
            client_certificate=tls.client_certificate,
            private_key=tls.private_key,
            is_verified=not tls.insecure_skip_verify,
            is_http2=config.app_protocol in _HTTP2,
            problem=_NO_SECRETS if tls.credential_name else "",
        )
