"""Which kinds and versions the API groups have that we read: a near miss of one of them is an error, not an object of
somebody else's.

A misspelled policy protects nothing, and what isn't known is otherwise passed over in silence. A kind that a group
doesn't have, a version it doesn't have, and a group that is almost one of these, are told with what was probably meant.
Groups that have nothing to do with us are left alone: `policy.linkerd.io` has an AuthorizationPolicy, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

SECURITY = "security.istio.io"
_CUTOFF = 0.75
_GROUP_CUTOFF = 0.85


@dataclass(frozen=True, slots=True)
class _Group:
    versions: tuple[str, ...]
    """The one to recommend first."""
    kinds: tuple[str, ...]


_GROUPS = {
    "": _Group(
        ("v1",),
        (
            *("Binding", "ComponentStatus", "ConfigMap", "Endpoints", "Event", "LimitRange", "Namespace", "Node"),
            *("PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate", "ReplicationController"),
            *("ResourceQuota", "Secret", "Service", "ServiceAccount"),
        ),
    ),
    "discovery.k8s.io": _Group(("v1", "v1beta1"), ("EndpointSlice",)),
    "gateway.networking.k8s.io": _Group(
        ("v1", "v1beta1", "v1alpha2", "v1alpha3"),
        (
            *("Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"),
            *("ReferenceGrant", "ReferencePolicy", "ListenerSet", "BackendTLSPolicy", "BackendLBPolicy"),
        ),
    ),
    "gateway.networking.x-k8s.io": _Group(("v1alpha1",), ("XBackendTrafficPolicy", "XListenerSet", "XMesh")),
    "networking.istio.io": _Group(
        ("v1", "v1beta1", "v1alpha3"),
        (
            *("DestinationRule", "EnvoyFilter", "Gateway", "ProxyConfig", "ServiceEntry", "Sidecar", "VirtualService"),
            *("WorkloadEntry", "WorkloadGroup"),
        ),
    ),
    "pywaypoint.dev": _Group(("v1alpha1",), ("FaultPolicy", "RateLimitPolicy")),
    SECURITY: _Group(("v1", "v1beta1"), ("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication")),
}
_OLD_KINDS = frozenset({"ReferencePolicy", "BackendLBPolicy"})
"""They are somebody's, but nobody should be led to them."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """`field` is the one that is wrong. `meant` is the (group, kind) that was probably meant, where there is one."""

    field: str
    sentence: str
    meant: tuple[str, str] | None
    is_policy: bool


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def is_policy(group: str, kind: str) -> bool:
    """Whether an object of this kind keeps somebody out."""
    return group == SECURITY and kind in _GROUPS[SECURITY].kinds


def near_miss(api_version: str, kind: str) -> NearMiss | None:
    """None for what is known, and for what has nothing to do with us."""
    group, _, version = api_version.rpartition("/")
    known = _GROUPS.get(group)
    if known is None:
        return _foreign(group, version, kind)
    if kind in known.kinds:
        if version in known.versions:
            return None
        meant = _api_version(group, known.versions[0])
        sentence = f"there is no {api_version}; did you mean {meant}?"
        return NearMiss("apiVersion", sentence, (group, kind), is_policy(group, kind))
    place = group or api_version
    for other, its in _GROUPS.items():
        if kind in its.kinds:
            meant = _api_version(other, its.versions[0])
            sentence = f"{place} has no kind {kind!r}; did you mean apiVersion: {meant}?"
            return NearMiss("apiVersion", sentence, (other, kind), is_policy(other, kind) or group == SECURITY)
    close = _close(kind, known.kinds) or _close(kind, _GROUPS[SECURITY].kinds)
    if close is None:
        sentence = f"{place} has no kind {kind!r}; its kinds are {', '.join(sorted(known.kinds))}"
        return NearMiss("kind", sentence, None, group == SECURITY)
    if close in known.kinds:
        return NearMiss("kind", f"there is no kind {kind!r}; did you mean {close}?", (group, close), group == SECURITY)
    meant = _api_version(SECURITY, _GROUPS[SECURITY].versions[0])
    sentence = f"{place} has no kind {kind!r}; did you mean kind: {close} of apiVersion: {meant}?"
    return NearMiss("kind", sentence, (SECURITY, close), True)


def may_be_policy(api_version: str | None, kind: str | None) -> bool:
    """Of an object of which not everything could be read: whether it may have been meant to keep somebody out."""
    if api_version is None or kind is None:
        if kind is not None:
            return _close(kind, _GROUPS[SECURITY].kinds) is not None
        return api_version is None or _close(group_of(api_version), [SECURITY], _GROUP_CUTOFF) is not None
    found = near_miss(api_version, kind)
    return is_policy(group_of(api_version), kind) if found is None else found.is_policy


def _foreign(group: str, version: str, kind: str) -> NearMiss | None:
    close_group = _close(group, [it for it in _GROUPS if it], _GROUP_CUTOFF)
    if close_group is None and group.endswith("istio.io"):
        close_group = SECURITY if _close(kind, _GROUPS[SECURITY].kinds, _GROUP_CUTOFF) else None
    if close_group is None:
        return None
    its = _GROUPS[close_group]
    close_kind = _close(kind, its.kinds)
    if close_kind is None:
        return None
    best = version if version in its.versions else its.versions[0]
    also = "" if close_kind == kind else f", kind: {close_kind}"
    sentence = f"there is no API group {group!r}; did you mean apiVersion: {close_group}/{best}{also}?"
    return NearMiss("apiVersion", sentence, (close_group, close_kind), close_group == SECURITY)


def _api_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


def _close(word: str, words: Iterable[str], cutoff: float = _CUTOFF) -> str | None:
    """Case, plurals and typing errors are near; the nearest wins."""
    by_small = {it.casefold(): it for it in words if it not in _OLD_KINDS}
    found = get_close_matches(word.casefold(), by_small, 1, cutoff)
    return by_small[found[0]] if found else None
