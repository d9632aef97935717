"""Settings of the compilation of configuration."""

from dataclasses import dataclass

from l4.config.settings import Section


@dataclass(frozen=True, slots=True)
class ConfigSettings(Section):
    title = "Configuration"

    requires_reference_grants: bool = False
    """Whether a backend in another namespace than its route needs a ReferenceGrant there. Routes of a mesh need none
    (GEP-1294): who may call a service is for its own AuthorizationPolicies to say."""
    unbound_seconds: float = 30.0
    """How long a waypoint still serves a Service whose label has come to name another waypoint, or none. ztunnels learn
    of that later, and clients use the connections that they have."""
    instance_ip: str = ""
    """The address of this process's pod, which tells its locality. Not needed where the process listens on it."""
