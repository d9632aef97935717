"""Overlays: the ConfigMap of `spec.infrastructure.parametersRef` has parts of the waypoint's objects.

Each key is an object in part, as YAML. The API server merges it: it is applied under a field manager of its own, whose
fields come before ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from waypoint.controller.kinds import OWNED

KEYS = {
    "deployment": "Deployment",
    "service": "Service",
    "serviceAccount": "ServiceAccount",
    "horizontalPodAutoscaler": "HorizontalPodAutoscaler",
    "podDisruptionBudget": "PodDisruptionBudget",
}
MAX_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Overlays:
    """`by_kind` are the parts to apply; `problems` say what of the ConfigMap is not understood. Kinds in `kept` have
    no part that can be applied: what was applied last stays."""

    by_kind: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()


def unusable(problem: str) -> Overlays:
    """There is no ConfigMap to read from, and should be."""
    return Overlays(problems=(problem,), kept=frozenset(OWNED))


def read(data: Mapping[str, str], place: str, namespace: str, name: str) -> Overlays:
    """`place` names the ConfigMap in sentences; `namespace` and `name` are the objects'."""
    parts: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    kept: set[str] = set()
    for key, text in sorted(data.items()):
        if key not in KEYS:
            problems.append(f"{place} has the unknown key {key}; keys are {', '.join(KEYS)}")
            continue
        try:
            parts[KEYS[key]] = _part(text, KEYS[key], namespace, name)
        except ValueError as error:
            problems.append(f"{place}, key {key}: {error}")
            kept.add(KEYS[key])
    return Overlays(parts, tuple(problems), frozenset(kept))


def empty(kind: str, namespace: str, name: str) -> dict[str, Any]:
    """The part that takes all of an overlay's fields back."""
    return {"apiVersion": OWNED[kind].api_version, "kind": kind, "metadata": {"namespace": namespace, "name": name}}


def _part(text: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    try:
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("metadata") or {}, dict):
        raise ValueError(f"it must be a mapping with parts of a {kind}, such as spec")
    if (nothing := next(_nulls(content, ""), None)) is not None:
        raise ValueError(f"{nothing} is null; an overlay adds and replaces fields, and can't take one away")
    made = empty(kind, namespace, name)
    identity = {"apiVersion": made["apiVersion"], "kind": kind}
    metadata = {**(content.get("metadata") or {})}
    for place, given, wanted in (("", content, identity), ("metadata.", metadata, made["metadata"])):
        for field_name, value in wanted.items():
            if given.get(field_name, value) != value:
                raise ValueError(f"{place}{field_name} is {given[field_name]!r}; it is always {value!r}, leave it out")
    return {**content, **identity, "metadata": {**metadata, **made["metadata"]}}


def _nulls(content: Any, place: str) -> Iterator[str]:
    if content is None:
        yield place
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _nulls(value, f"{place}.{name}" if place else str(name))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _nulls(value, f"{place}[{index}]")
