"""The kinds of objects that a program reads, and the detection of near misses.

A misspelled policy protects nothing, and unknown objects are otherwise ignored silently. So a kind or version that a
known group does not have, and a group that is almost a known one, are errors that name the probable intention.
Unrelated groups are ignored: `policy.linkerd.io` has an AuthorizationPolicy, too.

L4 declares its kinds in `l4.discovery.kubernetes`, a waypoint adds its own in `waypoint.config.kinds`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import msgspec

Kind = type[msgspec.Struct]

_SECURITY = "security.istio.io"
_POLICIES = ("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication")
_OURS = ("k8s.io", "istio.io", "pywaypoint.dev")
_CUTOFF = 0.75
_GROUP_CUTOFF = 0.85


@dataclass(frozen=True, slots=True)
class Group:
    """An API group, apart from the kinds that are read."""

    versions: tuple[str, ...]
    """The known versions, the recommended one first."""
    others: tuple[str, ...] = ()
    """Kinds that are ignored."""
    old: tuple[str, ...] = ()
    """Kinds that are ignored and never suggested."""
    is_whole: bool = True
    """Whether the known kinds are all kinds of the group. Then any other kind is an error; otherwise only a near miss
    is."""
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By kind, the top-level fields of its objects beside metadata, spec and status."""

    def joined(self, other: "Group") -> "Group":
        return Group(
            self.versions,
            (*self.others, *other.others),
            (*self.old, *other.old),
            self.is_whole or other.is_whole,
            {**self.fields, **other.fields},
        )


_POLICY_GROUP = Group(("v1", "v1beta1"), _POLICIES)


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An object that was probably meant to be of a known kind. `field` is the wrong field, `meant` the probable (group,
    kind)."""

    field: str
    sentence: str
    meant: tuple[str, str] | None
    is_policy: bool


class Kinds(Mapping[tuple[str, str], Kind]):
    """Maps (API group, kind) to the Struct that it decodes to. Also knows the groups of these kinds."""

    def __init__(self, read: Mapping[tuple[str, str], Kind], groups: Mapping[str, Group] | None = None) -> None:
        self._read = dict(read)
        self._groups = {_SECURITY: _POLICY_GROUP, **(groups or {})}
        self._names = {
            group: {*(kind for its, kind in self._read if its == group), *known.others}
            for group, known in self._groups.items()
        }

    def __getitem__(self, key: tuple[str, str]) -> Kind:
        return self._read[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    def joined(self, other: "Kinds") -> "Kinds":
        """Return all kinds that either reads."""
        groups = dict(self._groups)
        for name, its in other._groups.items():
            groups[name] = groups[name].joined(its) if name in groups else its
        return Kinds({**self._read, **other._read}, groups)

    def reading(self, read: Mapping[tuple[str, str], Kind]) -> "Kinds":
        """Return the same groups, of which only the kinds in `read` are read and the others are ignored."""
        groups = {
            name: Group(its.versions, (*self._names[name],), its.old, its.is_whole, its.fields)
            for name, its in self._groups.items()
        }
        return Kinds(read, groups)

    def fields(self, group: str, kind: str) -> frozenset[str]:
        """Return the top-level fields of the kind's objects beside metadata, spec and status."""
        known = self._groups.get(group)
        return known.fields.get(kind, frozenset()) if known is not None else frozenset()

    def versions(self, group: str) -> tuple[str, ...]:
        """Return the known versions of a group, the recommended one first."""
        known = self._groups.get(group)
        return known.versions if known is not None else ()

    def near_miss(self, api_version: str, kind: str) -> NearMiss | None:
        """Return the near miss. None for a known kind, and for one of an unrelated group."""
        group, _, version = api_version.rpartition("/")
        known = self._groups.get(group)
        if known is None:
            return self._foreign(group, version, kind)
        if kind in self._names[group] or kind in known.old:
            if version in known.versions:
                return None
            meant = _api_version(group, known.versions[0])
            sentence = f"there is no {api_version}; did you mean {meant}?"
            return NearMiss("apiVersion", sentence, (group, kind), is_policy(group, kind))
        place = group or api_version
        for other, its in self._groups.items():
            if kind in self._names[other] or kind in its.old:
                meant = _api_version(other, its.versions[0])
                sentence = f"{place} has no kind {kind!r}; did you mean apiVersion: {meant}?"
                return NearMiss("apiVersion", sentence, (other, kind), is_policy(other, kind) or group == _SECURITY)
        return self._misspelled(group, place, kind)

    def _misspelled(self, group: str, place: str, kind: str) -> NearMiss | None:
        names = sorted(self._names[group])
        if (close := _close(kind, names)) is not None:
            sentence = f"there is no kind {kind!r}; did you mean {close}?"
            return NearMiss("kind", sentence, (group, close), group == _SECURITY)
        if (close := _close(kind, _POLICIES)) is not None:
            meant = _api_version(_SECURITY, _POLICY_GROUP.versions[0])
            sentence = f"{place} has no kind {kind!r}; did you mean kind: {close} of apiVersion: {meant}?"
            return NearMiss("kind", sentence, (_SECURITY, close), True)
        if not self._groups[group].is_whole:
            return None
        all_names = ", ".join(sorted((*names, *self._groups[group].old)))
        sentence = f"{place} has no kind {kind!r}; its kinds are {all_names}"
        return NearMiss("kind", sentence, None, group == _SECURITY)

    def _foreign(self, group: str, version: str, kind: str) -> NearMiss | None:
        close_group = _close(group, [it for it in self._groups if it], _GROUP_CUTOFF)
        if close_group is None and group.endswith("istio.io"):
            close_group = _SECURITY if _close(kind, _POLICIES, _GROUP_CUTOFF) else None
        if close_group is None:
            return None
        its = self._groups[close_group]
        close_kind = _close(kind, sorted(self._names[close_group]))
        if close_kind is None:
            return None
        best = version if version in its.versions else its.versions[0]
        also = "" if close_kind == kind else f", kind: {close_kind}"
        sentence = f"there is no API group {group!r}; did you mean apiVersion: {close_group}/{best}{also}?"
        return NearMiss("apiVersion", sentence, (close_group, close_kind), close_group == _SECURITY)


def is_policy(group: str, kind: str) -> bool:
    """Whether objects of this kind can deny access."""
    return group == _SECURITY and kind in _POLICIES


def may_be_policy(api_version: str | None, kind: str | None) -> bool:
    """Whether an object that was only partly readable may have been meant as a policy that denies access."""
    group = None if api_version is None else api_version.rpartition("/")[0]
    if kind is None:
        return group is None or _is_almost_security(group)
    if group == _SECURITY:
        return True
    if _close(kind, _POLICIES) is None:
        return False
    return group is None or not group or group.endswith(_OURS) or _is_almost_security(group)


def _is_almost_security(group: str) -> bool:
    return _close(group, [_SECURITY], _GROUP_CUTOFF) is not None


def _api_version(group: str, version: str) -> str:
    return f"{group}/{version}" if group else version


def _close(word: str, words: Iterable[str], cutoff: float = _CUTOFF) -> str | None:
    """Return the nearest word, tolerating case, plurals and typing errors."""
    by_small = {it.casefold(): it for it in words}
    found = get_close_matches(word.casefold(), by_small, 1, cutoff)
    return by_small[found[0]] if found else None
