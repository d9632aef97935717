"""Policies in the form that `istioctl ztunnel-config policy` reads."""

from typing import Any

import pytest

from l4.ztunnel.policy_dump import PodPolicies, policy_dump
from tests.kit.workloads import pod
from tests.l4.discovery.test_workload_policies import SERVER, authentication, authorization, objects

OTHER = pod("other", "10.0.0.3")


def shown(*texts: str) -> dict[str, Any]:
    found = PodPolicies(objects(*texts).policies, [SERVER, OTHER])
    return {policy.name: policy_dump(policy, scope) for policy, scope in found.all}


def selecting(*texts: str) -> dict[str, tuple[str, ...]]:
    found = PodPolicies(objects(*texts).policies, [SERVER, OTHER])
    return {it.name: found.selecting(it) for it in (SERVER, OTHER)}


@pytest.mark.parametrize(
    ("spec", "namespace", "scope"),
    [
        ("", "istio-system", "Global"),
        ("", "default", "Namespace"),
        ("selector: {matchLabels: {app: server}}", "default", "WorkloadSelector"),
        ("selector: {matchLabels: {app: server}}", "istio-system", "WorkloadSelector"),
    ],
)
def test_the_scope_is_ztunnels_word_for_it(spec: str, namespace: str, scope: str) -> None:
    assert shown(authorization(spec, namespace))["p"]["scope"] == scope


def test_a_rule_has_clauses_which_have_matches() -> None:
    text = authorization(
        """action: DENY, rules: [{
          from: [{source: {namespaces: [a, "b*"]}}, {source: {serviceAccounts: [a/x], notIpBlocks: [10.0.0.0/8]}}],
          to: [{operation: {ports: ["80"]}}],
          when: [{key: destination.ip, notValues: [10.0.0.1]}]
        }, {}]"""
    )

    assert shown(text)["p"] == {
        "name": "p",
        "namespace": "default",
        "scope": "Namespace",
        "action": "Deny",
        "rules": [
            [
                [
                    {"namespaces": [{"Exact": "a"}, {"Prefix": "b"}]},
                    {
                        "serviceAccounts": [{"namespace": "a", "serviceAccount": "x"}],
                        "notSourceIps": ["10.0.0.0/8"],
                    },
                ],
                [{"destinationPorts": [80]}],
                [{"notDestinationIps": ["10.0.0.1/32"]}],
            ],
            [],
        ],
        "dryRun": False,
    }


@pytest.mark.parametrize(
    ("text", "match"),
    [("*", {"Presence": []}), ("a*", {"Prefix": "a"}), ("*a", {"Suffix": "a"}), ("a", {"Exact": "a"})],
)
def test_a_text_says_how_it_is_compared(text: str, match: dict[str, object]) -> None:
    rules = shown(authorization(f"rules: [{{from: [{{source: {{principals: ['{text}']}}}}]}}]"))["p"]["rules"]

    assert rules == [[[{"principals": [match]}]]]


def test_conditions_on_http_are_left_out_as_they_are_enforced() -> None:
    http = "to: [{operation: {methods: [GET], ports: ['80']}}]"
    found = shown(
        authorization(f"action: DENY, rules: [{{{http}}}]", name="deny"),
        authorization(f"action: ALLOW, rules: [{{{http}}}]", name="allow"),
    )

    assert found["deny"]["rules"] == [[[{"destinationPorts": [80]}]]]
    assert found["allow"]["rules"] == []


def test_a_workload_names_the_policies_that_select_it() -> None:
    texts = (
        authorization("selector: {matchLabels: {app: server}}", name="selected"),
        authorization("", name="all"),
        authentication("selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}"),
    )

    assert selecting(*texts) == {
        "server": ("default/selected", "istio-system/istio_converted_static_strict"),
        "other": (),
    }
    strict = shown(*texts)["istio_converted_static_strict"]
    assert (strict["scope"], strict["action"]) == ("WorkloadSelector", "Deny")
    assert strict["rules"] == [[[{"notPrincipals": [{"Presence": []}]}]]]
