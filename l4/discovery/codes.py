"""The codes of discovery's problems: services, waypoints and access policies."""

from l4.config.codes import Code, Level


class DiscoveryCode(Code):
    """Services, waypoints, and who is let in."""

    HOST_TAKEN = (
        "PWP0124",
        "HostTaken",
        Level.ERROR,
        "Another object already has the host or the address. It leads there, and not to this one.",
    )
    AUTHORIZATION_INVALID = (
        "PWP0131",
        "AuthorizationInvalid",
        Level.ERROR,
        "The policy can't be understood. An AuthorizationPolicy then denies all, a PeerAuthentication is STRICT.",
        "IST0106",
    )
    POLICY_NOT_ENFORCED = (
        "PWP0132",
        "PolicyNotEnforced",
        Level.ERROR,
        "No proxy enforces the policy for this target. It protects nothing.",
    )
    WAYPOINT_NOT_USED = (
        "PWP0201",
        "WaypointNotUsed",
        Level.WARNING,
        "A use-waypoint label names no waypoint that exists. Traffic goes without a waypoint.",
    )
    CANARY_NOT_USED = (
        "PWP0205",
        "CanaryNotUsed",
        Level.WARNING,
        "A use-waypoint-canary label has no effect. All traffic goes to the waypoint of the use-waypoint label.",
    )
    SERVICE_NOT_REACHABLE = (
        "PWP0202",
        "ServiceNotReachable",
        Level.WARNING,
        "Nothing can be sent to the service as it is declared.",
    )
