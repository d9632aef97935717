"""The codes of the analyzer's and the laptop mesh's findings, and the list of all codes.

The codes of L4 and of the compiler are declared in their own modules and listed here.
"""

from collections.abc import Iterable
from itertools import chain

from l4.config.codes import Code, DocumentCode, Level
from l4.discovery.codes import DiscoveryCode
from waypoint.config.codes import ConfigCode


class LintCode(Code):
    """Findings about valid configurations that are probably not as intended."""

    ROUTE_WITHOUT_WAYPOINT = (
        "PWP0203",
        "RouteWithoutWaypoint",
        Level.WARNING,
        "Requests to the service pass through no waypoint. The route or policy has no effect.",
    )
    WAYPOINT_WITHOUT_SERVICES = (
        "PWP0204",
        "WaypointWithoutServices",
        Level.WARNING,
        "No use-waypoint label names the waypoint. No traffic goes through it.",
    )
    NOT_FOR_CANARY = (
        "PWP0206",
        "NotForCanary",
        Level.WARNING,
        "The policy is for a waypoint and not for its canary. The canary's share of connections goes without it.",
    )
    CANARY_NOT_LET_IN = (
        "PWP0207",
        "CanaryNotLetIn",
        Level.WARNING,
        "Policies of workloads let in the waypoint of the service, and refuse connections of its canary.",
    )
    BACKEND_NEVER_COUNTS = (
        "PWP0302",
        "BackendNeverCounts",
        Level.INFO,
        "A backend with weight 0 gets no requests.",
    )
    PORT_NAME_WITHOUT_PROTOCOL = (
        "PWP0303",
        "PortNameWithoutProtocol",
        Level.INFO,
        "The port names no protocol, so it is guessed from the first bytes.",
        "IST0118",
    )
    SELECTOR_POLICY_WITH_L7 = (
        "PWP0304",
        "SelectorPolicyWithL7",
        Level.WARNING,
        "ztunnel enforces policies with a selector, and it can't see HTTP. Such a policy with HTTP fields denies.",
    )
    ENROLLED_WITHOUT_MESH = (
        "PWP0305",
        "EnrolledWithoutMesh",
        Level.WARNING,
        "Only clients in the mesh use a waypoint, and the namespace is not in the mesh.",
    )
    HBONE_PORT_BLOCKED = (
        "PWP0306",
        "HbonePortBlocked",
        Level.WARNING,
        "A NetworkPolicy blocks port 15008, which HBONE tunnels need.",
    )
    CREDENTIALS_FOR_ANY_ORIGIN = (
        "PWP0307",
        "CredentialsForAnyOrigin",
        Level.WARNING,
        "CORS lets pages of any origin send requests with their visitors' credentials.",
    )
    HOSTNAMES_IGNORED = (
        "PWP0308",
        "HostnamesIgnored",
        Level.INFO,
        "In a mesh, a route matches by its Service. Its hostnames have no effect.",
    )
    TIMEOUT_CUTS_RETRIES = (
        "PWP0309",
        "TimeoutCutsRetries",
        Level.INFO,
        "The timeout of the request ends before the timeouts of its attempts.",
    )
    BACKEND_WITHOUT_ENDPOINTS = (
        "PWP0310",
        "BackendWithoutEndpoints",
        Level.WARNING,
        "The backend has no ready endpoint. Requests get 503.",
    )
    SELECTS_NOTHING = (
        "PWP0311",
        "SelectsNothing",
        Level.INFO,
        "The selector matches no pod.",
        "IST0166",
    )
    REDIRECTS_TO_ITSELF = (
        "PWP0312",
        "RedirectsToItself",
        Level.WARNING,
        "The redirect leads back to itself. A client that follows it never arrives.",
    )
    RULE_WITHOUT_BACKEND = (
        "PWP0313",
        "RuleWithoutBackend",
        Level.WARNING,
        "The rule has neither a redirect nor a backend with a weight. All its requests get 500.",
    )
    CLAIMS_NOT_CHECKED = (
        "PWP0314",
        "ClaimsNotChecked",
        Level.WARNING,
        "A policy asks for claims of a token, but no RequestAuthentication validates tokens.",
        "IST0149",
    )
    EJECTS_NOBODY = (
        "PWP0315",
        "EjectsNobody",
        Level.WARNING,
        "maxEjectionPercent is less than one endpoint of so few. No endpoint is ever ejected.",
    )
    SUBSET_SELECTS_NOTHING = (
        "PWP0317",
        "SubsetSelectsNothing",
        Level.WARNING,
        "No endpoint has the subset's labels. Requests for the subset get 503.",
        "IST0173",
    )
    NO_WORKLOAD_SELECTED = (
        "PWP0318",
        "NoWorkloadSelected",
        Level.WARNING,
        "The policy's selector matches no pod. The policy protects nothing.",
        "IST0127",
    )
    NAMESPACE_UNKNOWN = (
        "PWP0319",
        "NamespaceUnknown",
        Level.WARNING,
        "A policy names a namespace that does not exist. Check its spelling.",
        "IST0101",
    )
    PORT_NOT_CHOSEN = (
        "PWP0320",
        "PortNotChosen",
        Level.WARNING,
        "The destination is a Service with several ports, and the port is missing.",
        "IST0112",
    )
    PATH_LEFT_OPEN = (
        "PWP0322",
        "PathLeftOpen",
        Level.WARNING,
        "Another spelling of the same path may get past the policy.",
    )
    WAYPOINT_PASSED_BY = (
        "PWP0321",
        "WaypointPassedBy",
        Level.WARNING,
        "A client that calls the pods directly is not denied what the waypoint denies.",
    )


class LaptopCode(Code):
    """Limits of the laptop mesh."""

    NOT_RUN = (
        "PWP0401",
        "NotRun",
        Level.ERROR,
        "The laptop mesh can't run it, or not all of it.",
    )


_ROOMS: tuple[Iterable[Code], ...] = (DocumentCode, DiscoveryCode, ConfigCode, LintCode, LaptopCode)
CODES: tuple[Code, ...] = tuple(sorted(chain.from_iterable(_ROOMS)))
