"""The stable names of everything that can be wrong with a configuration.

People suppress, count and look up problems by code, so that a code never changes its meaning and is never used again.
`ist` is the message of istioctl's analyzers that says the same, where there is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """ERROR: something asked for is not done. WARNING: it is done, but hardly what was meant. INFO: good to know."""

    ERROR = "Error"
    WARNING = "Warning"
    INFO = "Info"


class Code(StrEnum):
    INVALID = "PWP0001"
    UNKNOWN_FIELD = "PWP0002"
    NOT_CARRIED_OUT = "PWP0003"
    FILE_EMPTY = "PWP0004"
    KIND_UNKNOWN = "PWP0005"
    CONTENT_HELD = "PWP0006"
    PARENT_NOT_FOUND = "PWP0101"
    PARENT_PORT_NOT_FOUND = "PWP0102"
    BACKEND_NOT_FOUND = "PWP0103"
    BACKEND_KIND_UNKNOWN = "PWP0104"
    REFERENCE_NOT_PERMITTED = "PWP0105"
    FILTER_INVALID = "PWP0106"
    PROTOCOL_MISMATCH = "PWP0107"
    RULE_INVALID = "PWP0108"
    TARGET_NOT_FOUND = "PWP0121"
    POLICY_CONFLICTED = "PWP0122"
    NOT_ENTITLED = "PWP0123"
    HOST_TAKEN = "PWP0124"
    AUTHORIZATION_INVALID = "PWP0131"
    POLICY_NOT_ENFORCED = "PWP0132"
    PROVIDER_INVALID = "PWP0133"
    WAYPOINT_NOT_USED = "PWP0201"
    SERVICE_NOT_REACHABLE = "PWP0202"
    ROUTE_WITHOUT_WAYPOINT = "PWP0203"
    WAYPOINT_WITHOUT_SERVICES = "PWP0204"
    RULE_NEVER_MATCHES = "PWP0301"
    BACKEND_NEVER_COUNTS = "PWP0302"
    PORT_NAME_WITHOUT_PROTOCOL = "PWP0303"
    SELECTOR_POLICY_WITH_L7 = "PWP0304"
    ENROLLED_WITHOUT_MESH = "PWP0305"
    HBONE_PORT_BLOCKED = "PWP0306"
    CREDENTIALS_FOR_ANY_ORIGIN = "PWP0307"
    HOSTNAMES_IGNORED = "PWP0308"
    TIMEOUT_CUTS_RETRIES = "PWP0309"
    BACKEND_WITHOUT_ENDPOINTS = "PWP0310"
    SELECTS_NOTHING = "PWP0311"
    REDIRECTS_TO_ITSELF = "PWP0312"
    RULE_WITHOUT_BACKEND = "PWP0313"
    CLAIMS_NOT_CHECKED = "PWP0314"
    EJECTS_NOBODY = "PWP0315"
    LOCALITY_WITHOUT_EFFECT = "PWP0316"
    SUBSET_SELECTS_NOTHING = "PWP0317"
    NO_WORKLOAD_SELECTED = "PWP0318"
    NAMESPACE_UNKNOWN = "PWP0319"
    PORT_NOT_CHOSEN = "PWP0320"
    PATH_LEFT_OPEN = "PWP0322"
    WAYPOINT_PASSED_BY = "PWP0321"
    NOT_RUN = "PWP0401"
    POLICY_NOT_TARGETED = "PWP0501"
    TOKENS_REFUSED = "PWP0502"


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    level: Level
    meaning: str
    ist: str = ""


_ERROR, _WARNING, _INFO = Level.ERROR, Level.WARNING, Level.INFO

CODES: Mapping[Code, Entry] = {
    Code.INVALID: Entry(
        "Invalid", _ERROR, "The document breaks a rule of its API. Its last valid version stays live.", "IST0106"
    ),
    Code.UNKNOWN_FIELD: Entry(
        "UnknownField", _WARNING, "The field is unknown and has no effect. Check its spelling.", "IST0106"
    ),
    Code.NOT_CARRIED_OUT: Entry(
        "NotCarriedOut", _ERROR, "The API has this field or value, but this waypoint does not carry it out."
    ),
    Code.FILE_EMPTY: Entry("FileEmpty", _WARNING, "A configuration file contains no object."),
    Code.KIND_UNKNOWN: Entry(
        "KindUnknown",
        _ERROR,
        "The API group has no such kind or version. At start, the proxy stays not ready.",
        "IST0106",
    ),
    Code.CONTENT_HELD: Entry(
        "ContentHeld",
        _WARNING,
        "A file was emptied, cut short or removed, or can't be read. Its last objects stay live.",
    ),
    Code.PARENT_NOT_FOUND: Entry("ParentNotFound", _ERROR, "The route's parent does not exist.", "IST0101"),
    Code.PARENT_PORT_NOT_FOUND: Entry("ParentPortNotFound", _ERROR, "The parent has no such port.", "IST0101"),
    Code.BACKEND_NOT_FOUND: Entry(
        "BackendNotFound",
        _ERROR,
        "The backend, or its port, does not exist. Its share gets 500, or 503 in a VirtualService.",
        "IST0101",
    ),
    Code.BACKEND_KIND_UNKNOWN: Entry("BackendKindUnknown", _ERROR, "This waypoint knows no backends of this kind."),
    Code.REFERENCE_NOT_PERMITTED: Entry(
        "ReferenceNotPermitted",
        _ERROR,
        "REQUIRES_REFERENCE_GRANTS is set, and the other namespace has no ReferenceGrant for this.",
    ),
    Code.FILTER_INVALID: Entry("FilterInvalid", _ERROR, "The filter can't be used here. Its rule answers 500."),
    Code.PROTOCOL_MISMATCH: Entry(
        "ProtocolMismatch", _ERROR, "A route or policy of this kind has no effect on a port of this protocol."
    ),
    Code.RULE_INVALID: Entry(
        "RuleInvalid",
        _ERROR,
        "A value of the rule is not accepted. The rule's requests get 500; a TCP or TLS rule's connections are closed.",
        "IST0106",
    ),
    Code.TARGET_NOT_FOUND: Entry("TargetNotFound", _ERROR, "The policy's target does not exist.", "IST0101"),
    Code.POLICY_CONFLICTED: Entry(
        "PolicyConflicted",
        _ERROR,
        "Another object, such as an older policy, already has the same target. This one has no effect there.",
    ),
    Code.NOT_ENTITLED: Entry(
        "NotEntitled", _ERROR, "Objects of this namespace can't configure the service. The object has no effect there."
    ),
    Code.HOST_TAKEN: Entry(
        "HostTaken", _ERROR, "Another object already has the host or the address. It leads there, and not to this one."
    ),
    Code.AUTHORIZATION_INVALID: Entry(
        "AuthorizationInvalid",
        _ERROR,
        "The policy can't be understood. An AuthorizationPolicy then denies all, a PeerAuthentication is STRICT.",
        "IST0106",
    ),
    Code.POLICY_NOT_ENFORCED: Entry(
        "PolicyNotEnforced", _ERROR, "No proxy enforces the policy for this target. It protects nothing."
    ),
    Code.PROVIDER_INVALID: Entry(
        "ProviderInvalid",
        _ERROR,
        "The authorizer is unknown or its settings are invalid. All that the policy matches is denied.",
    ),
    Code.WAYPOINT_NOT_USED: Entry(
        "WaypointNotUsed",
        _WARNING,
        "A use-waypoint label names no waypoint that exists. Traffic goes without a waypoint.",
    ),
    Code.SERVICE_NOT_REACHABLE: Entry(
        "ServiceNotReachable", _WARNING, "Nothing can be sent to the service as it is declared."
    ),
    Code.ROUTE_WITHOUT_WAYPOINT: Entry(
        "RouteWithoutWaypoint",
        _WARNING,
        "Requests to the service pass through no waypoint. The route or policy has no effect.",
    ),
    Code.WAYPOINT_WITHOUT_SERVICES: Entry(
        "WaypointWithoutServices", _WARNING, "No use-waypoint label names the waypoint. No traffic goes through it."
    ),
    Code.RULE_NEVER_MATCHES: Entry(
        "RuleNeverMatches", _WARNING, "Other rules come first for every request that this rule matches.", "IST0130"
    ),
    Code.BACKEND_NEVER_COUNTS: Entry("BackendNeverCounts", _INFO, "A backend with weight 0 gets no requests."),
    Code.PORT_NAME_WITHOUT_PROTOCOL: Entry(
        "PortNameWithoutProtocol",
        _INFO,
        "The port names no protocol, so it is guessed from the first bytes.",
        "IST0118",
    ),
    Code.SELECTOR_POLICY_WITH_L7: Entry(
        "SelectorPolicyWithL7",
        _WARNING,
        "ztunnel enforces policies with a selector, and it can't see HTTP. Such a policy with HTTP fields denies.",
    ),
    Code.ENROLLED_WITHOUT_MESH: Entry(
        "EnrolledWithoutMesh",
        _WARNING,
        "Only clients in the mesh use a waypoint, and the namespace is not in the mesh.",
    ),
    Code.HBONE_PORT_BLOCKED: Entry(
        "HbonePortBlocked", _WARNING, "A NetworkPolicy blocks port 15008, which HBONE tunnels need."
    ),
    Code.CREDENTIALS_FOR_ANY_ORIGIN: Entry(
        "CredentialsForAnyOrigin",
        _WARNING,
        "CORS lets pages of any origin send requests with their visitors' credentials.",
    ),
    Code.HOSTNAMES_IGNORED: Entry(
        "HostnamesIgnored", _INFO, "In a mesh, a route matches by its Service. Its hostnames have no effect."
    ),
    Code.TIMEOUT_CUTS_RETRIES: Entry(
        "TimeoutCutsRetries", _INFO, "The timeout of the request ends before the timeouts of its attempts."
    ),
    Code.BACKEND_WITHOUT_ENDPOINTS: Entry(
        "BackendWithoutEndpoints", _WARNING, "The backend has no ready endpoint. Requests get 503."
    ),
    Code.SELECTS_NOTHING: Entry("SelectsNothing", _INFO, "The selector matches no pod.", "IST0166"),
    Code.REDIRECTS_TO_ITSELF: Entry(
        "RedirectsToItself", _WARNING, "The redirect leads back to itself. A client that follows it never arrives."
    ),
    Code.RULE_WITHOUT_BACKEND: Entry(
        "RuleWithoutBackend",
        _WARNING,
        "The rule has neither a redirect nor a backend with a weight. All its requests get 500.",
    ),
    Code.CLAIMS_NOT_CHECKED: Entry(
        "ClaimsNotChecked",
        _WARNING,
        "A policy asks for claims of a token, but no RequestAuthentication validates tokens.",
        "IST0149",
    ),
    Code.EJECTS_NOBODY: Entry(
        "EjectsNobody", _WARNING, "maxEjectionPercent is less than one endpoint of so few. No endpoint is ever ejected."
    ),
    Code.LOCALITY_WITHOUT_EFFECT: Entry(
        "LocalityWithoutEffect",
        _WARNING,
        "A setting or label for locality is missing. Near and far endpoints are treated alike.",
    ),
    Code.SUBSET_SELECTS_NOTHING: Entry(
        "SubsetSelectsNothing",
        _WARNING,
        "No endpoint has the subset's labels. Requests for the subset get 503.",
        "IST0173",
    ),
    Code.NO_WORKLOAD_SELECTED: Entry(
        "NoWorkloadSelected", _WARNING, "The policy's selector matches no pod. The policy protects nothing.", "IST0127"
    ),
    Code.NAMESPACE_UNKNOWN: Entry(
        "NamespaceUnknown", _WARNING, "A policy names a namespace that does not exist. Check its spelling.", "IST0101"
    ),
    Code.PORT_NOT_CHOSEN: Entry(
        "PortNotChosen",
        _WARNING,
        "The destination is a Service with several ports, and the port is missing.",
        "IST0112",
    ),
    Code.PATH_LEFT_OPEN: Entry("PathLeftOpen", _WARNING, "Another spelling of the same path may get past the policy."),
    Code.WAYPOINT_PASSED_BY: Entry(
        "WaypointPassedBy", _WARNING, "A client that calls the pods directly is not denied what the waypoint denies."
    ),
    Code.NOT_RUN: Entry("NotRun", _ERROR, "The laptop mesh can't run it, or not all of it."),
    Code.POLICY_NOT_TARGETED: Entry(
        "PolicyNotTargeted",
        _WARNING,
        "A waypoint enforces only policies whose targetRefs name it or its services.",
        "IST0167",
    ),
    Code.TOKENS_REFUSED: Entry(
        "TokensRefused", _ERROR, "The rule for an issuer's tokens can't be used. All tokens of the issuer are refused."
    ),
}
