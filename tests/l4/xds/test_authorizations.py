"""`istio.security.Authorization` → policies, by what they allow; and everything that is refused."""

import ipaddress
import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from l4._proto import authorization_pb2 as wire
from l4.discovery.waypoints_ahead import NoWaypoints, everybody
from l4.discovery.workload_policies import PolicySet, ScopedPolicy, WorkloadPolicies
from l4.xds.authorizations import convert, name_of
from l4.xds.resource import Refused
from policies.access import Access
from policies.attributes import Identity, Peer
from policies.authorization import Action
from tests.kit.workloads import pod

SERVER = replace(pod("server", "10.0.0.2"), authorization_policies=("default/p",))
CLIENT = Peer(Identity("cluster.local", "default", "client"), "10.0.0.1", 1)
NOBODY = Peer(None, "10.0.0.1", 1)


def policy(*rules: wire.Rule, **fields: Any) -> ScopedPolicy:
    its = {"name": "p", "namespace": "default", "scope": wire.WORKLOAD_SELECTOR, **fields}
    return convert(wire.Authorization(rules=rules, **its).SerializeToString())


def rule(*clauses: list[wire.Match]) -> wire.Rule:
    return wire.Rule(clauses=[wire.Clause(matches=its) for its in clauses])


def is_allowed(*policies: ScopedPolicy, peer: Peer = CLIENT, port: int = 8080) -> bool:
    its = WorkloadPolicies(PolicySet(policies), NoWaypoints(everybody)).of(SERVER)
    return its is None or its.judge(Access(peer, SERVER.addresses, port)).is_allowed


def matches(match: wire.Match, peer: Peer = CLIENT, port: int = 8080) -> bool:
    """Whether an ALLOW policy with this match allows, and a DENY policy denies."""
    allowed = is_allowed(policy(rule([match])), peer=peer, port=port)
    assert is_allowed(policy(rule([match]), action=wire.DENY), peer=peer, port=port) is not allowed
    return allowed


def exact(text: str) -> list[wire.StringMatch]:
    return [wire.StringMatch(exact=text)]


def presence() -> list[wire.StringMatch]:
    it = wire.StringMatch()
    it.presence.SetInParent()
    return [it]


def block(text: str) -> list[wire.Address]:
    network = ipaddress.ip_network(text)
    return [wire.Address(address=network.network_address.packed, length=network.prefixlen)]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (wire.Match(namespaces=exact("default")), True),
        (wire.Match(namespaces=exact("other")), False),
        (wire.Match(not_namespaces=exact("default")), False),
        (wire.Match(namespaces=[wire.StringMatch(prefix="def")]), True),
        (wire.Match(namespaces=[wire.StringMatch(suffix="ult")]), True),
        (wire.Match(namespaces=[wire.StringMatch(suffix="def")]), False),
        (wire.Match(principals=exact("cluster.local/ns/default/sa/client")), True),
        (wire.Match(principals=exact("cluster.local/ns/default/sa/cli")), False),
        (wire.Match(not_principals=presence()), False),
        (wire.Match(principals=presence()), True),
        (wire.Match(service_accounts=[wire.ServiceAccountMatch(namespace="default", service_account="client")]), True),
        (wire.Match(service_accounts=[wire.ServiceAccountMatch(namespace="other", service_account="client")]), False),
        (wire.Match(not_service_accounts=[wire.ServiceAccountMatch(namespace="d", service_account="c")]), True),
        (wire.Match(source_ips=block("10.0.0.0/24")), True),
        (wire.Match(source_ips=block("::ffff:10.0.0.0/120")), True),
        (wire.Match(not_source_ips=block("0.0.0.0/0")), False),
        (wire.Match(destination_ips=block("10.0.0.2/32")), True),
        (wire.Match(not_destination_ips=block("10.0.0.2/32")), False),
        (wire.Match(destination_ports=[8080, 80]), True),
        (wire.Match(not_destination_ports=[8080]), False),
        (wire.Match(namespaces=exact("default"), destination_ports=[80]), False),
    ],
)
def test_each_condition(match: wire.Match, expected: bool) -> None:
    assert matches(match) is expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (wire.Match(not_principals=presence()), True),
        (wire.Match(principals=presence()), False),
        (wire.Match(not_namespaces=exact("default")), True),
        (wire.Match(not_service_accounts=[wire.ServiceAccountMatch(namespace="default", service_account="c")]), True),
    ],
)
def test_a_client_without_an_identity(match: wire.Match, expected: bool) -> None:
    assert matches(match, NOBODY) is expected


NEVER, ALWAYS, OTHER = wire.Match(destination_ports=[1]), wire.Match(destination_ports=[8080]), wire.Match()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], False),
        ([rule()], True),
        ([rule([])], True),
        ([rule([NEVER]), rule([ALWAYS])], True),
        ([rule([ALWAYS], [NEVER])], False),
        ([rule([ALWAYS, NEVER])], True),
        ([rule([OTHER])], False),
        ([rule([OTHER, ALWAYS])], True),
        ([rule([ALWAYS], [])], True),
    ],
)
def test_rules_clauses_and_matches(rules: list[wire.Rule], expected: bool) -> None:
    assert is_allowed(policy(*rules)) is expected


def test_dry_run_changes_nothing() -> None:
    assert is_allowed(policy(rule(), action=wire.DENY, dry_run=True))
    assert not is_allowed(policy(rule(), action=wire.DENY))


def test_scopes() -> None:
    def covered(**fields: Any) -> bool:
        return policy(**fields).scope.covers(SERVER)

    assert covered(scope=wire.GLOBAL, namespace="istio-system")
    assert covered(scope=wire.NAMESPACE)
    assert not covered(scope=wire.NAMESPACE, namespace="other")
    assert covered(scope=wire.WORKLOAD_SELECTOR)
    assert not covered(scope=wire.WORKLOAD_SELECTOR, name="q")


def test_a_policy_has_its_name_and_action() -> None:
    it = policy(action=wire.DENY)

    assert name_of(it) == "default/p"
    assert it.policy.action is Action.DENY


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff", "its bytes are no istio.security.Authorization"),
        (b"", "name: it is empty"),
        (wire.Authorization(name="p", action=7).SerializeToString(), "action: 7 is not a value"),
        (wire.Authorization(name="p", scope=7).SerializeToString(), "scope: 7 is not a value"),
    ],
)
def test_what_is_no_policy_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        convert(content)


@pytest.mark.parametrize(
    ("match", "sentence"),
    [
        (
            wire.Match(namespaces=[wire.StringMatch()]),
            r"rules\[0\].clauses\[0\].matches\[0\].namespaces: a match of text",
        ),
        (wire.Match(principals=exact("*")), r"principals: '\*' contains \*"),
        (wire.Match(principals=[wire.StringMatch(prefix="a*")]), r"contains \*"),
        (wire.Match(service_accounts=[wire.ServiceAccountMatch(namespace="a")]), "service_accounts: 'a/' is not"),
        (wire.Match(source_ips=[wire.Address(address=b"abc")]), "source_ips: 616263/0 is no network"),
        (wire.Match(source_ips=[wire.Address(address=b"abcd", length=33)]), "is no network"),
    ],
)
def test_a_match_that_cannot_be_understood_is_refused(match: wire.Match, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        policy(rule([match]))


UNKNOWN = b"\xaa\x01\x01x"
"""A field 21 that nobody knows."""


@pytest.mark.parametrize(
    "build",
    [
        lambda: wire.Authorization.FromString(wire.Authorization(name="p").SerializeToString() + UNKNOWN),
        lambda: wire.Authorization(name="p", rules=[wire.Rule.FromString(UNKNOWN)]),
        lambda: wire.Authorization(name="p", rules=[wire.Rule(clauses=[wire.Clause.FromString(UNKNOWN)])]),
        lambda: wire.Authorization(name="p", rules=[rule([wire.Match.FromString(UNKNOWN)])]),
    ],
)
def test_a_policy_with_an_unknown_field_might_allow_too_much_and_is_refused(build: Any) -> None:
    with pytest.raises(Refused, match="it has a field 21 that is not known here"):
        convert(build().SerializeToString())


def test_extensions_of_a_whole_policy_are_ignored() -> None:
    extension = b"\x3a\x01x"  # field 7

    assert convert(wire.Authorization(name="p").SerializeToString() + extension).policy.name == "p"


def test_garbage_is_refused_or_understood_and_raises_nothing_else() -> None:
    chance = random.Random(15)
    match = wire.Match(namespaces=exact("ns"), source_ips=block("10.0.0.0/8"), destination_ports=[80])
    whole = wire.Authorization(name="p", namespace="ns", rules=[rule([match])]).SerializeToString()
    for _ in range(3000):
        bytes_ = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            bytes_[chance.randrange(len(bytes_))] = chance.randrange(256)
        with suppress(Refused):
            convert(bytes(bytes_))
