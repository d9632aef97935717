"""DestinationRules → what a cluster takes from them: whom they are for, and how TLS is spoken with its endpoints.

A host without dots is a Service of the rule's own namespace. Of several rules for one host, that of the waypoint's
namespace counts before that of the service's, and of equals the oldest.
https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from collections.abc import Iterable

from l4.config.codes import Code
from l4.config.documents import Problem
from l4.config.resources import Resource
from l4.discovery.registry import Registry
from l4.discovery.workload import Service, ServicePort
from policies.upstream_tls import UpstreamTls
from waypoint.config.istio import ClientTLS, DestinationRule

_NO_SECRETS = "secrets are not read, and nothing is sent; give caCertificates, clientCertificate, privateKey as files"


class DestinationRules:
    """`namespace` is that of the waypoint."""

    def __init__(self, resources: Iterable[Resource[DestinationRule]], registry: Registry, namespace: str) -> None:
        self.problems: list[Problem] = []
        self._namespace = namespace
        self._by_host: dict[str, list[Resource[DestinationRule]]] = {}
        for resource in sorted(resources, key=lambda it: (it.value.metadata.creation_timestamp, it.key)):
            host = resource.value.spec.host.lower()
            named = registry.service_named(resource.key.namespace, host) if "." not in host else None
            self._by_host.setdefault(named.hostname if named is not None else host, []).append(resource)

    def of(self, service: Service) -> Resource[DestinationRule] | None:
        """The one that counts for a service."""
        places = (self._namespace, service.namespace)
        rules = [it for it in self._by_host.get(service.hostname, ()) if it.key.namespace in places]
        return min(rules, key=lambda it: places.index(it.key.namespace), default=None)

    def tls(self, service: Service, port: ServicePort, *, is_http2: bool) -> UpstreamTls | None:
        """How to speak TLS with a port's endpoints; a port's own setting replaces that of the whole."""
        rule = self.of(service)
        if rule is None:
            return None
        policy = rule.value.spec.traffic_policy
        field, tls = "spec.trafficPolicy.tls", policy.tls
        for index, own in enumerate(policy.port_level_settings):
            if own.port.number == port.port:
                field, tls = f"spec.trafficPolicy.portLevelSettings[{index}].tls", own.tls
        if tls is None or tls.mode in {"DISABLE", "ISTIO_MUTUAL"}:
            return None
        if tls.credential_name:
            place = f"{field}.credentialName"
            self.problems.append(Problem(rule.origin, str(rule.key), place, _NO_SECRETS, Code.NOT_CARRIED_OUT))
        return _upstream(tls, service, is_http2=is_http2)


def _upstream(tls: ClientTLS, service: Service, *, is_http2: bool) -> UpstreamTls:
    return UpstreamTls(
        server_name=tls.sni or service.hostname,
        subject_alt_names=tls.subject_alt_names,
        ca_certificates=tls.ca_certificates,
        client_certificate=tls.client_certificate,
        private_key=tls.private_key,
        is_verified=not tls.insecure_skip_verify,
        is_http2=is_http2,
        problem=_NO_SECRETS if tls.credential_name else "",
    )
