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
        "Invalid", _ERROR, "The document breaks a rule of its API; its last valid version stays live.", "IST0106"
    ),
    Code.UNKNOWN_FIELD: Entry(
        "UnknownField", _WARNING, "The field is not known here and has no effect; is it spelled right?", "IST0106"
    ),
    Code.NOT_CARRIED_OUT: Entry("NotCarriedOut", _ERROR, "The API has it, this waypoint doesn't do it."),
    Code.FILE_EMPTY: Entry("FileEmpty", _WARNING, "A file of the configuration holds no object."),
    Code.KIND_UNKNOWN: Entry(
        "KindUnknown",
        _ERROR,
        "The API group has no such kind or version; at start it keeps a proxy not ready.",
        "IST0106",
    ),
    Code.CONTENT_HELD: Entry(
        "ContentHeld",
        _WARNING,
        "A file was emptied, cut short or removed, or can't be read; what it held stays live.",
    ),
    Code.PARENT_NOT_FOUND: Entry("ParentNotFound", _ERROR, "What the route attaches to does not exist.", "IST0101"),
    Code.PARENT_PORT_NOT_FOUND: Entry("ParentPortNotFound", _ERROR, "The parent has no such port.", "IST0101"),
    Code.BACKEND_NOT_FOUND: Entry(
        "BackendNotFound", _ERROR, "The backend, or its port, does not exist; its share is answered 500.", "IST0101"
    ),
    Code.BACKEND_KIND_UNKNOWN: Entry("BackendKindUnknown", _ERROR, "No backend is of this kind here."),
    Code.REFERENCE_NOT_PERMITTED: Entry(
        "ReferenceNotPermitted", _ERROR, "The setting asks for a ReferenceGrant in the other namespace."
    ),
    Code.FILTER_INVALID: Entry("FilterInvalid", _ERROR, "The filter can't be used here; its rule answers 500."),
    Code.PROTOCOL_MISMATCH: Entry(
        "ProtocolMismatch", _ERROR, "A route or policy of this kind has no effect on a port of this protocol."
    ),
    Code.RULE_INVALID: Entry(
        "RuleInvalid",
        _ERROR,
        "A value of the rule is not accepted. The rule's requests get 500; a TCP or TLS rule's connections are closed.",
        "IST0106",
    ),
    Code.TARGET_NOT_FOUND: Entry("TargetNotFound", _ERROR, "What the policy is attached to does not exist.", "IST0101"),
    Code.POLICY_CONFLICTED: Entry(
        "PolicyConflicted", _ERROR, "An older policy of the same kind has the same target, and is in force there."
    ),
    Code.NOT_ENTITLED: Entry(
        "NotEntitled", _ERROR, "An object of this namespace can't speak for the service, and has no effect there."
    ),
    Code.HOST_TAKEN: Entry(
        "HostTaken", _ERROR, "Another object has the host or the address already, and this one is not called by it."
    ),
    Code.AUTHORIZATION_INVALID: Entry(
        "AuthorizationInvalid",
        _ERROR,
        "It can't be understood: an AuthorizationPolicy denies everything then, a PeerAuthentication is STRICT.",
        "IST0106",
    ),
    Code.POLICY_NOT_ENFORCED: Entry(
        "PolicyNotEnforced", _ERROR, "Nobody carries the policy out for this target, so that it protects nothing."
    ),
    Code.PROVIDER_INVALID: Entry(
        "ProviderInvalid", _ERROR, "Whom a policy wants to have asked can't be asked; what it matches is denied."
    ),
    Code.WAYPOINT_NOT_USED: Entry(
        "WaypointNotUsed", _WARNING, "A use-waypoint label leads nowhere; traffic goes without a waypoint."
    ),
    Code.SERVICE_NOT_REACHABLE: Entry(
        "ServiceNotReachable", _WARNING, "Nothing can be sent to the service as it is declared."
    ),
    Code.ROUTE_WITHOUT_WAYPOINT: Entry(
        "RouteWithoutWaypoint",
        _WARNING,
        "Requests to the service pass no waypoint, so the route or policy has no effect.",
    ),
    Code.WAYPOINT_WITHOUT_SERVICES: Entry(
        "WaypointWithoutServices", _WARNING, "No use-waypoint label names the waypoint; nothing goes through it."
    ),
    Code.RULE_NEVER_MATCHES: Entry(
        "RuleNeverMatches", _WARNING, "Every request it could take is taken by a stronger match.", "IST0130"
    ),
    Code.BACKEND_NEVER_COUNTS: Entry("BackendNeverCounts", _INFO, "With weight 0 a backend gets no request."),
    Code.PORT_NAME_WITHOUT_PROTOCOL: Entry(
        "PortNameWithoutProtocol", _INFO, "The port's protocol has to be guessed from its first bytes.", "IST0118"
    ),
    Code.SELECTOR_POLICY_WITH_L7: Entry(
        "SelectorPolicyWithL7", _WARNING, "A ztunnel can't judge HTTP: a selector policy with such fields denies."
    ),
    Code.ENROLLED_WITHOUT_MESH: Entry(
        "EnrolledWithoutMesh", _WARNING, "A waypoint is used only by clients that are in the mesh."
    ),
    Code.HBONE_PORT_BLOCKED: Entry("HbonePortBlocked", _WARNING, "A NetworkPolicy keeps tunnels out of port 15008."),
    Code.CREDENTIALS_FOR_ANY_ORIGIN: Entry(
        "CredentialsForAnyOrigin", _WARNING, "Any page may act with its visitors' credentials."
    ),
    Code.HOSTNAMES_IGNORED: Entry("HostnamesIgnored", _INFO, "A mesh matches by service, never by Host."),
    Code.TIMEOUT_CUTS_RETRIES: Entry(
        "TimeoutCutsRetries", _INFO, "The request's time is over before its attempts' times are."
    ),
    Code.BACKEND_WITHOUT_ENDPOINTS: Entry(
        "BackendWithoutEndpoints", _WARNING, "No endpoint is ready; requests are answered 503."
    ),
    Code.SELECTS_NOTHING: Entry("SelectsNothing", _INFO, "The selector matches no pod.", "IST0166"),
    Code.REDIRECTS_TO_ITSELF: Entry("RedirectsToItself", _WARNING, "A client that follows comes back here, for ever."),
    Code.RULE_WITHOUT_BACKEND: Entry(
        "RuleWithoutBackend", _WARNING, "Neither a backend with a weight nor a redirect: all requests are answered 500."
    ),
    Code.CLAIMS_NOT_CHECKED: Entry(
        "ClaimsNotChecked", _WARNING, "A policy asks for a token's claims, and nothing validates tokens.", "IST0149"
    ),
    Code.EJECTS_NOBODY: Entry(
        "EjectsNobody", _WARNING, "maxEjectionPercent of so few endpoints is less than one endpoint."
    ),
    Code.LOCALITY_WITHOUT_EFFECT: Entry(
        "LocalityWithoutEffect", _WARNING, "Something is missing without which near and far endpoints are alike."
    ),
    Code.SUBSET_SELECTS_NOTHING: Entry(
        "SubsetSelectsNothing",
        _WARNING,
        "No endpoint has the subset's labels; requests for it are answered 503.",
        "IST0173",
    ),
    Code.NO_WORKLOAD_SELECTED: Entry(
        "NoWorkloadSelected", _WARNING, "The policy's selector matches no pod, so that it protects nothing.", "IST0127"
    ),
    Code.NAMESPACE_UNKNOWN: Entry(
        "NamespaceUnknown", _WARNING, "A policy names a namespace that is not there; is it spelled right?", "IST0101"
    ),
    Code.PORT_NOT_CHOSEN: Entry(
        "PortNotChosen", _WARNING, "A Service of several ports is named as a destination without one.", "IST0112"
    ),
    Code.PATH_LEFT_OPEN: Entry(
        "PathLeftOpen", _WARNING, "Another spelling of a path gets past the policy, and may mean the same path."
    ),
    Code.WAYPOINT_PASSED_BY: Entry(
        "WaypointPassedBy", _WARNING, "What the waypoint denies is not denied to who calls the pods directly."
    ),
    Code.NOT_RUN: Entry("NotRun", _ERROR, "The mesh on one machine can't run it, or not all of it."),
    Code.POLICY_NOT_TARGETED: Entry(
        "PolicyNotTargeted", _WARNING, "Waypoints carry out only what names them or their services.", "IST0167"
    ),
    Code.TOKENS_REFUSED: Entry(
        "TokensRefused", _ERROR, "The rule for an issuer's tokens can't be used, so that all of them are refused."
    ),
}
