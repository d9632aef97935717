"""AuthorizationPolicies from YAML: parsed, or turned into a denial."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l4.config.documents import FileOrigin, ObjectKey
from l4.config.resources import Resource
from l4.discovery.authorization_policy import AuthorizationPolicy
from l4.discovery.authorization_rules import Compiled, compile_policy
from l4.discovery.objects import Metadata
from policies.access import Access
from policies.attributes import Identity, Peer
from policies.authorization import Action, Authorization

KEY = ObjectKey("security.istio.io", "AuthorizationPolicy", "default", "p")
ADMIN = "cluster.local/ns/default/sa/admin"


def compiled(spec: Any, *, dry_run: str = "", domains: frozenset[str] = frozenset({"cluster.local"})) -> Compiled:
    metadata = Metadata("p", annotations={"istio.io/dry-run": dry_run} if dry_run else {})
    return compile_policy(Resource(KEY, AuthorizationPolicy(metadata, spec), FileOrigin("p.yaml", 1)), domains)


def allows(it: Compiled, peer: Peer) -> bool:
    assert it.policy is not None
    return Authorization((it.policy,)).for_bytes().judge(Access(peer, (), 80)).is_allowed


@pytest.mark.parametrize("principal", [ADMIN, "old.example/ns/default/sa/admin", f"spiffe://{ADMIN}", "*/sa/admin"])
def test_a_principal_of_the_mesh_is_meant_in_each_of_its_trust_domains(principal: str) -> None:
    spec = {"rules": [{"from": [{"source": {"principals": [principal]}}]}]}
    it = compiled(spec, domains=frozenset({"new.example", "old.example"}))

    for domain in ("new.example", "old.example"):
        assert allows(it, Peer(Identity(domain, "default", "admin"), "10.0.0.1", 1))
    assert not allows(it, Peer(Identity("new.example", "default", "other"), "10.0.0.1", 1))


def test_a_principal_of_another_trust_domain_is_meant_in_that_one_alone() -> None:
    spec = {"rules": [{"from": [{"source": {"principals": ["else.example/ns/default/sa/admin"]}}]}]}
    it = compiled(spec)

    assert not allows(it, Peer(Identity("cluster.local", "default", "admin"), "10.0.0.1", 1))


@pytest.mark.parametrize(("annotation", "is_dry_run"), [("true", True), ("1", True), ("yes", False), ("", False)])
def test_a_policy_is_on_trial_where_its_annotation_is_true(annotation: str, is_dry_run: bool) -> None:
    it = compiled({"rules": [{}]}, dry_run=annotation)

    assert it.policy is not None
    assert it.policy.is_dry_run is is_dry_run


@pytest.mark.parametrize(
    ("spec", "field", "sentence"),
    [
        ({"rules": [{"when": [{"key": "a", "values": ["b"]}]}]}, "spec.rules[0].when[0]", "key 'a' is unknown"),
        (
            {"rules": [{"to": [{"operation": {"ports": ["x"]}}]}]},
            "spec.rules[0].to[0].operation.ports",
            "is not a port",
        ),
        ({"rules": [{"to": [{"operation": {}}]}]}, "spec.rules[0].to[0].operation", "is empty"),
        ({"action": "CUSTOM", "rules": [{}]}, "spec", "provider is valid only for action CUSTOM"),
        ({"action": "CUSTOM", "provider": {"name": "a"}}, "spec", "CUSTOM without rules matches no request"),
        ({"action": "DENY"}, "spec", "DENY without rules matches no request; to match all, write [{}]"),
        ({"action": "DENY", "rules": []}, "spec", "DENY without rules matches no request"),
        (7, "spec", "expected `object`"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_what_comes_of_it(spec: Any, field: str, sentence: str) -> None:
    it = compiled(spec)

    assert [problem.field for problem in it.problems] == [field]
    assert sentence in it.problems[0].sentence
    assert it.problems[0].sentence.endswith("denies everything at its targets")


_WORDS = [
    *("action", "rules", "provider", "name", "selector", "matchLabels", "targetRefs", "kind", "from", "to", "when"),
    *("source", "operation", "key", "values", "notValues", "principals", "ipBlocks", "ports", "paths", "x"),
]
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "*", "a", "80", "10.0.0.0/8", "/{*}", "GET"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500)
@given(st.dictionaries(st.sampled_from(_WORDS), _VALUES, max_size=4) | _VALUES)
def test_whatever_is_written_a_policy_is_understood_or_denies(spec: Any) -> None:
    it = compiled(spec)

    assert it.policy is not None or (isinstance(spec, dict) and spec.get("action") == "AUDIT")
    if it.problems and it.policy is not None:
        assert it.policy.action is Action.DENY
        assert not allows(it, Peer(None, "10.0.0.1", 1))
