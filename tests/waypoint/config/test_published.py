"""Every published field of the APIs is read or reported: without it, or with another value, the result differs.

The lists of fields are those of the CRDs of istio.io/api 1.32 and of the Gateway API 1.6, experimental channel.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from l4.config.codes import DocumentCode
from l4.config.shape import Shape, shape_of
from l4.discovery.policy_objects import PolicyObjects
from tests.kit.snapshots import documents_of, followed
from waypoint.config.istio.request_authentication import JWTRule
from waypoint.config.kinds import KINDS

HERE = Path(__file__).parent / "published"
EXAMPLES: dict[str, list[dict[str, Any]]] = yaml.safe_load((HERE / "examples.yaml").read_text())
GROUPS = {kind: group for group, kind in KINDS}
MESH = (HERE / "mesh.yaml").read_text()
TOLD_WHOLE = re.compile(
    r"trafficPolicy\.(tunnel|proxyProtocol|loadBalancer\.(zoneAwareLbSetting|backendUtilization)"
    r"|connectionPool\.http\.http2KeepAlive)(?=\.)"
    r"|rules\.backendRefs\.filters\.(cors|externalAuth|requestRedirect)(?=\.)"
)
"""What is told as a whole, and not looked into."""
HARMLESS = {
    ("ServiceEntry", "location"),  # the README says so: a workload itself tells whether it speaks HBONE
    ("RequestAuthentication", "selector.matchLabels"),  # told with the selector
}
REPEATED = re.compile(r"^subsets\.trafficPolicy\.|\.portLevelSettings\.(?!port\.)")
"""The same types once more; that they count is for `test_destination_rule` to show."""
MAPS = ("match.headers", "match.withoutHeaders", "match.queryParams", "portLevelMtls")
"""Objects whose fields are called as the user likes."""
OTHERS = {
    "endpoints.address": ("192.0.2.77",),
    "scheme": ("http", "https", "HTTP"),
    "mode": ("DISABLE", "PERMISSIVE", "SIMPLE"),
    "action": ("ALLOW", "DENY"),
    "kind": ("Gateway", "ServiceEntry"),
    "group": ("networking.istio.io", "gateway.networking.k8s.io"),
    "name": ("ratings",),
    "host": ("ratings",),
    "grpcStatus": ("ABORTED",),
    "derivePort": ("FROM_PROTOCOL_DEFAULT",),
    "presence": ("OPTIONAL",),
    "resolution": ("DNS",),
    "protocol": ("TCP",),
    "namespace": ("other",),
    "destinationSubnets": (["11.0.0.0/8"],),
    "tableSize": (65539,),
    "simple": ("ROUND_ROBIN",),
    "distribute.from": ("r3",),
    "distribute.to": ({"r1": 30, "r2": 70},),
}
"""Values of those fields that take few."""


def published(kind: str) -> Iterator[str]:
    for path in (HERE / f"{kind}.txt").read_text().split():
        whole = TOLD_WHOLE.search(path)
        if not REPEATED.search(path) and (kind, path) not in HARMLESS:
            yield path[: whole.end()] if whole is not None else path


@dataclass(frozen=True)
class Outcome:
    """All that comes of an object, and why it is not taken, if so."""

    effects: object
    refusals: tuple[str, ...]


def outcome(kind: str, spec: dict[str, Any]) -> Outcome:
    document = {
        "apiVersion": f"{GROUPS[kind]}/v1",
        "kind": kind,
        "metadata": {"name": "it", "namespace": "default"},
        "spec": spec,
    }
    found = followed(documents_of(mesh=MESH, case=json.dumps(document)))
    objects = PolicyObjects.of(found.resources)
    policies = objects.on(found.registry)
    of_workloads = [policies.of(it) for _, it in sorted(found.registry.workloads.items())]
    told = sorted(it for it in found.taken.problems if it.code is DocumentCode.INVALID)
    refusals = tuple(f"{it.field}: {it.sentence}" for it in told)
    return Outcome((found.snapshot.version, found.registry.services, of_workloads, objects.problems), refusals)


def places(value: Any, path: str = "", steps: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The paths of all fields, as the lists have them, with the steps that lead there."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from places(item, path, (*steps, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            step = "*" if path.endswith(MAPS) else name
            below = f"{path}.{step}" if path else str(step)
            yield below, (*steps, name)
            yield from places(item, below, (*steps, name))


def variants(spec: dict[str, Any], path: str, steps: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """The spec without the field, and with other values of it."""
    *way, last = steps
    values: list[Any] = [None]
    value = spec
    for step in steps:
        value = value[step]
    values += next((its for name, its in OTHERS.items() if f".{path}".endswith(f".{name}")), ())
    values += _others(value)
    for it in values:
        changed: dict[str, Any] = json.loads(json.dumps(spec))  # anchors come apart
        holder: Any = changed
        for step in way:
            holder = holder[step]
        if it is None:
            del holder[last]
        else:
            holder[last] = it
        yield changed


def _others(value: Any) -> list[Any]:
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1]
        case str():
            return [value + "z", re.sub("[0-9]", "7", value), f"/z{value}", f"z{value}"]
        case [str(first), *_]:
            return [[it] for it in _others(first)]
        case dict() if value and all(isinstance(it, str | int) for it in value.values()):
            return [{name: others[0] for name, it in value.items() if (others := _others(it))}]
    return []


def tells(after: Outcome, before: Outcome, path: str) -> bool:
    """Whether it is another outcome because of the field: one that refuses the object has to name it."""
    name = path.rpartition(".")[2]
    return after != before and (not after.refusals or any(name in it for it in (*after.refusals, *before.refusals)))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_no_published_field_passes_in_silence(kind: str) -> None:
    silent = set(published(kind))
    for spec in EXAMPLES[kind]:
        before = outcome(kind, spec)
        for path, steps in places(spec):
            changed = variants(spec, path, steps) if path in silent else ()
            if any(tells(outcome(kind, it), before, path) for it in changed):
                silent.discard(path)

    assert sorted(silent) == []


OWN = {
    "GRPCRoute": re.compile(r"\.filters\.(cors|externalAuth|requestRedirect|urlRewrite)(\.|$)"),  # HTTPRoute's type
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_no_field_is_read_that_nobody_publishes(kind: str) -> None:
    """The API server would take it away, and istiod never sees it."""
    known = (HERE / f"{kind}.txt").read_text().split()
    group = GROUPS[kind]
    shape = (shape_of(KINDS[group, kind]) or {}).get("spec") or {}
    if kind == "RequestAuthentication":
        shape = {**shape, "jwtRules": shape_of(JWTRule)}

    unknown = [it for it in leaves(shape) if not any(f"{name}.".startswith(f"{it}.") for name in known)]

    assert [it for it in unknown if kind not in OWN or not OWN[kind].search(it)] == []


def leaves(shape: Shape, path: str = "") -> Iterator[str]:
    for name, below in (shape or {}).items():
        yield from leaves(below, f"{path}{name}.") if below else (f"{path}{name}",)
