"""The options of a compilation: the waypoint, its location and its settings."""

from dataclasses import dataclass

from l4.config.settings import Settings
from l4.discovery.authorization_rules import LOCAL_TRUST_DOMAIN
from l4.discovery.mesh import Mesh
from waypoint.config.settings import ConfigSettings
from waypoint.http.settings import HttpSettings
from waypoint.telemetry.tracing_settings import SpanTagSettings


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """The options of a compilation.

    `gateway` is the namespace and name of the waypoint's Gateway. `own_ip` identifies the waypoint's own pod, and so
    the near endpoints. `denied` are the namespaces that may lack a policy. `path_normalization` is applied to requests
    before policies judge them. `leaving` are hostnames of services to serve although they are bound no longer.
    `tag_variables` are the environment variables that tags of spans may show.
    """

    gateway: tuple[str, str]
    own_ip: str | None = None
    requires_reference_grants: bool = False
    path_normalization: str = "BASE"
    trust_domains: frozenset[str] = frozenset({LOCAL_TRUST_DOMAIN})
    denied: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()
    tag_variables: frozenset[str] = SpanTagSettings().names


def options_of(
    settings: Settings,
    gateway: tuple[str, str],
    own_ip: str | None,
    denied: frozenset[str],
    leaving: frozenset[str] = frozenset(),
) -> CompileOptions:
    return CompileOptions(
        gateway,
        own_ip,
        settings.of(ConfigSettings).requires_reference_grants,
        settings.of(HttpSettings).path_normalization,
        settings.of(Mesh).trust_domains,
        denied,
        leaving,
        settings.of(SpanTagSettings).names,
    )
