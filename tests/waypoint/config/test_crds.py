"""The CRDs of our own kinds say what our structs say: the same fields, and the same about what may stand in them.

What only we can judge (an RE2 expression, a cron expression) is left out: the API server takes it, and the policy's
status tells. The schemas' CEL rules are judged here by the same in Python; `CEL` has all of them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from l4.config.durations import seconds_of
from l4.config.shape import Shape, shape_of
from waypoint.config.ours.fault_policy import FaultPolicy
from waypoint.config.ours.rate_limit_policy import RateLimitPolicy

ROOT = Path(__file__).parents[3]
KINDS: dict[str, type[msgspec.Struct]] = {"RateLimitPolicy": RateLimitPolicy, "FaultPolicy": FaultPolicy}


def schema_of(kind: str) -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / f"deploy/crds/{kind.lower().removesuffix('y')}ies.yaml").read_text())
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def fields_of(schema: dict[str, Any]) -> Shape:
    if schema.get("type") == "array":
        return fields_of(schema["items"])
    properties = schema.get("properties")
    return {name: fields_of(it) for name, it in properties.items()} if properties is not None else None


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_are_the_same(kind: str) -> None:
    assert fields_of(schema_of(kind)["properties"]["spec"]) == (shape_of(KINDS[kind]) or {})["spec"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_spec_is_described(kind: str) -> None:
    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        below = schema.get("items", {}) if schema.get("type") == "array" else schema
        found = [] if "description" in schema else [path]
        return found + [
            it for name, sub in below.get("properties", {}).items() for it in undescribed(sub, f"{path}.{name}")
        ]

    assert undescribed(schema_of(kind)["properties"]["spec"], "spec") == []


SERVICE = "targetRefs: [{group: '', kind: Service, name: app}]"
LIMIT = "limit: {requests: 5, unit: Minute}"


def rate(rule: str, more: str = "") -> str:
    return f"{{{SERVICE}, rules: [{{{LIMIT}, {rule}}}], {more}}}"


def selecting(selector: str) -> str:
    return rate(f"clientSelectors: [{{{selector}}}]")


def fault(rule: str, more: str = "") -> str:
    return f"{{{SERVICE}, rules: [{{{rule}}}], {more}}}"


def target(ref: str) -> str:
    return f"{{targetRefs: [{{{ref}}}], rules: [{{{LIMIT}}}]}}"


ROUTE = "group: gateway.networking.k8s.io, kind: HTTPRoute, name: app"
ABORT = "abort: {httpStatus: 500, percentage: 10}"
SAMPLES = [
    ("RateLimitPolicy", True, rate("name: a")),
    ("RateLimitPolicy", False, "{}"),
    ("RateLimitPolicy", False, f"{{{SERVICE}, rules: []}}"),
    ("RateLimitPolicy", False, f"{{targetRefs: [], rules: [{{{LIMIT}}}]}}"),
    ("RateLimitPolicy", True, target(ROUTE)),
    ("RateLimitPolicy", True, target(f"{ROUTE}, sectionName: rule-1")),
    ("RateLimitPolicy", False, target(f"{ROUTE}, sectionName: Rule 1")),
    ("RateLimitPolicy", False, target("group: '', kind: HTTPRoute, name: app")),
    ("RateLimitPolicy", False, target("kind: Service, name: app")),
    ("RateLimitPolicy", True, target("group: networking.istio.io, kind: ServiceEntry, name: app")),
    ("RateLimitPolicy", True, target("group: gateway.networking.k8s.io, kind: Gateway, name: waypoint")),
    ("RateLimitPolicy", False, target("group: gateway.networking.k8s.io, kind: Gateway, name: w, sectionName: mesh")),
    ("RateLimitPolicy", False, target("group: apps, kind: Deployment, name: app")),
    ("RateLimitPolicy", True, selecting("headers: [{name: a, value: b, invert: true}]")),
    ("RateLimitPolicy", False, selecting("headers: [{name: a}]")),
    ("RateLimitPolicy", False, selecting("headers: [{name: a b, value: b}]")),
    ("RateLimitPolicy", True, selecting("headers: [{name: a, type: Distinct}]")),
    ("RateLimitPolicy", False, selecting("headers: [{name: a, type: Distinct, value: b}]")),
    ("RateLimitPolicy", False, selecting("headers: [{name: a, type: Distinct, invert: true}]")),
    ("RateLimitPolicy", True, selecting("headers: [{name: a, type: Distinct, invert: false}]")),
    ("RateLimitPolicy", False, selecting("headers: [{name: a, type: Prefix, value: b}]")),
    ("RateLimitPolicy", True, selecting("methods: [GET, POST]")),
    ("RateLimitPolicy", False, selecting("methods: [get]")),
    ("RateLimitPolicy", True, selecting("path: {type: PathPrefix, value: /a}")),
    ("RateLimitPolicy", True, selecting("path: {type: Distinct}")),
    ("RateLimitPolicy", False, selecting("path: {}")),
    ("RateLimitPolicy", True, selecting("sourceCIDR: {value: 10.0.0.0/8, type: Distinct}")),
    ("RateLimitPolicy", False, selecting("sourceCIDR: {type: Distinct}")),
    ("RateLimitPolicy", True, selecting("queryParams: [{name: a, type: RegularExpression, value: b}]")),
    ("RateLimitPolicy", False, selecting("queryParams: [{name: a}]")),
    ("RateLimitPolicy", True, selecting("clientIdentity: {type: Distinct}")),
    ("RateLimitPolicy", True, selecting("clientIdentity: {namespaces: [a]}")),
    ("RateLimitPolicy", True, selecting("clientIdentity: {type: Distinct, serviceAccounts: [a/b]}")),
    ("RateLimitPolicy", True, selecting("clientIdentity: {principals: [cluster.local/ns/a/sa/b]}")),
    ("RateLimitPolicy", False, selecting("clientIdentity: {}")),
    ("RateLimitPolicy", False, selecting("clientIdentity: {namespaces: []}")),
    ("RateLimitPolicy", False, selecting("clientIdentity: {serviceAccounts: [b]}")),
    ("RateLimitPolicy", False, selecting("clientIdentity: {principals: [spiffe://cluster.local/ns/a/sa/b]}")),
    ("RateLimitPolicy", False, f"{{{SERVICE}, rules: [{{limit: {{requests: 0, unit: Second}}}}]}}"),
    ("RateLimitPolicy", False, f"{{{SERVICE}, rules: [{{limit: {{requests: 1, unit: Week}}}}]}}"),
    ("RateLimitPolicy", False, f"{{{SERVICE}, rules: [{{limit: {{requests: 1}}}}]}}"),
    ("RateLimitPolicy", True, f"{{{SERVICE}, rules: [{{limit: {{requests: 1, unit: Day, burst: 3}}}}]}}"),
    ("RateLimitPolicy", True, rate("shadowMode: true", "scope: DividedByReplicas, xRateLimitHeaders: DraftVersion03")),
    ("RateLimitPolicy", False, rate("shadowMode: true", "scope: Global")),
    ("RateLimitPolicy", False, rate("shadowMode: true", "global: {domain: a, address: 'a:1'}")),
    ("RateLimitPolicy", True, rate("shadowMode: true", "scope: Global, global: {domain: a, address: '[::1]:1'}")),
    ("RateLimitPolicy", False, rate("shadowMode: true", "scope: Global, global: {domain: a, address: a}")),
    ("RateLimitPolicy", True, rate("name: a", "scope: Global, global: {domain: a, address: 'a:65535'}")),
    ("RateLimitPolicy", False, rate("name: a", "scope: Global, global: {domain: a, address: 'a:65536'}")),
    ("RateLimitPolicy", False, rate("name: a", "scope: Global, global: {domain: a, address: 'a:0'}")),
    ("RateLimitPolicy", False, rate("shadowMode: true", "scope: Global, global: {domain: a}")),
    ("RateLimitPolicy", True, rate("name: a", "scope: Global, global: {domain: a, service: {name: b, port: 1}}")),
    ("RateLimitPolicy", False, rate("name: a", "scope: Global, global: {domain: a, service: {name: b}}")),
    ("RateLimitPolicy", False, rate("name: a", "scope: Global, global: {domain: a, address: 'a:1', timeout: soon}")),
    ("RateLimitPolicy", True, rate("name: a", "scope: Global, global: {domain: a, address: 'a:1', timeout: 4s1000ms}")),
    ("RateLimitPolicy", False, rate("name: a", "scope: Global, global: {domain: a, address: 'a:1', timeout: 5s1ms}")),
    ("RateLimitPolicy", False, rate("name: a", "scope: Global, global: {domain: a, address: 'a:1', timeout: 0s}")),
    ("RateLimitPolicy", True, f"{{{SERVICE}, rules: [{{{LIMIT}, name: a}}, {{{LIMIT}, name: b}}, {{{LIMIT}}}]}}"),
    ("RateLimitPolicy", False, f"{{{SERVICE}, rules: [{{{LIMIT}, name: a}}, {{{LIMIT}, name: a}}]}}"),
    (
        "RateLimitPolicy",
        False,
        f"{{{SERVICE}, rules: [{{limit: {{requests: 1, unit: Day, burst: 3}}}}], scope: Global, "
        "global: {domain: a, address: 'a:1'}}",
    ),
    ("FaultPolicy", True, fault(ABORT)),
    (
        "FaultPolicy",
        True,
        fault("delay: {fixedDelay: 7s, percentage: 0.5}, abort: {grpcStatus: INTERNAL, percentage: 1}"),
    ),
    ("FaultPolicy", False, fault("name: nothing")),
    ("FaultPolicy", False, f"{{{SERVICE}, rules: [{{{ABORT}, name: a}}, {{{ABORT}, name: a}}]}}"),
    ("FaultPolicy", False, fault("abort: {percentage: 10}")),
    ("FaultPolicy", False, fault("abort: {httpStatus: 500}")),
    ("FaultPolicy", False, fault("abort: {httpStatus: 500, grpcStatus: INTERNAL, percentage: 10}")),
    ("FaultPolicy", False, fault("abort: {grpcStatus: OK, percentage: 10}")),
    ("FaultPolicy", False, fault("abort: {httpStatus: 600, percentage: 10}")),
    ("FaultPolicy", False, fault("delay: {fixedDelay: 7s, percentage: 101}")),
    ("FaultPolicy", False, fault("delay: {fixedDelay: 7, percentage: 1}")),
    ("FaultPolicy", False, fault("delay: {fixedDelay: 7s}")),
    ("FaultPolicy", False, fault(f"{ABORT}, clientSelectors: [{{path: {{type: Distinct}}}}]")),
    ("FaultPolicy", False, fault(f"{ABORT}, clientSelectors: [{{clientIdentity: {{type: Distinct}}}}]")),
    ("FaultPolicy", False, fault(f"{ABORT}, clientSelectors: [{{headers: [{{name: a}}]}}]")),
    ("FaultPolicy", True, fault(f"{ABORT}, clientSelectors: [{{headers: [{{name: a, value: b}}]}}]")),
    ("FaultPolicy", True, fault(ABORT, "schedule: {from: '2026-01-01T00:00:00Z', until: '2026-01-01T02:00:00+01:00'}")),
    ("FaultPolicy", False, fault(ABORT, "schedule: {from: tomorrow}")),
    ("FaultPolicy", False, fault(ABORT, "schedule: {cron: {expression: '0 9 * * *'}}")),
    ("FaultPolicy", True, fault(ABORT, "stopWhen: {errorPercentage: 5}")),
    ("FaultPolicy", False, fault(ABORT, "stopWhen: {errorPercentage: 5, minRequests: 0}")),
    ("FaultPolicy", False, fault(ABORT, "stopWhen: {}")),
]


def _have_different_names(rules: list[dict[str, Any]]) -> bool:
    names = [rule["name"] for rule in rules if "name" in rule]
    return len(set(names)) == len(names)


CEL: dict[str, Callable[[Any], bool]] = {
    "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && b.name == a.name))": _have_different_names,
    "duration(self) > duration('0s') && duration(self) <= duration('5s')": lambda text: (
        0 < (seconds_of(text) or 0) <= 5
    ),
}


def _judge(validator: Any, rules: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """As the API server: only what fits the schema otherwise."""
    plain = {name: it for name, it in schema.items() if name != "x-kubernetes-validations"}
    if validator.evolve(schema=plain).is_valid(instance):
        yield from (jsonschema.ValidationError(it["message"]) for it in rules if not CEL[it["rule"]](instance))


Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"x-kubernetes-validations": _judge})


@pytest.mark.parametrize(("kind", "is_accepted", "spec"), SAMPLES)
def test_both_take_and_refuse_the_same(kind: str, is_accepted: bool, spec: str) -> None:
    document = {"metadata": {"name": "sample"}, "spec": yaml.safe_load(spec)}
    validator = Validator(schema_of(kind), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)

    try:
        msgspec.convert(document, KINDS[kind])
    except msgspec.ValidationError:
        is_taken = False
    else:
        is_taken = True

    assert is_taken is is_accepted
    assert validator.is_valid(document) is is_accepted
