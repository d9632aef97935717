"""Policies as messages: what has no place in them denies more, never less."""

import pytest

from l4.discovery.workload_policies import Area
from l4.xds.authorization_messages import authorization_message
from l4.xds.authorizations import convert
from policies.access import Access, Condition, Method, Namespace, Principal, ServerName, TrustDomain
from policies.attributes import Identity, Peer
from policies.authorization import Action, Authorization, Policy, Rule
from policies.value_match import Texts

CLIENT = Peer(Identity("td", "default", "client"), "10.0.0.1", 1)
IN_TD, ELSEWHERE = TrustDomain(Texts(("td",))), TrustDomain(Texts(("*d",)))


def is_allowed(action: Action, *groups: tuple[tuple[Condition, ...], ...]) -> bool:
    policy = Policy("default", "p", action, (Rule(0, groups),))
    sent = convert(authorization_message(policy, Area("default")).SerializeToString()).policy
    return Authorization((sent,)).for_bytes().judge(Access(CLIENT, ("10.0.0.2",), 80)).is_allowed


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (IN_TD, True),
        (TrustDomain(Texts(("t*",))), True),
        (TrustDomain(Texts(("*",))), True),
        (TrustDomain(Texts(("t",))), False),
        (TrustDomain(Texts(("td",)), is_not=True), False),
        (ServerName(Texts(("*",))), False),
        (ServerName(Texts(("a",)), is_not=True), True),
        (Principal(Texts(())), False),
        (Principal(Texts(("*/sa/*",))), False),
        (Principal(Texts(("*/sa/*",)), is_not=True), True),
        (Namespace(Texts(("*ault",))), True),
    ],
)
def test_conditions(condition: Condition, holds: bool) -> None:
    assert is_allowed(Action.ALLOW, ((condition,),)) is holds
    assert is_allowed(Action.DENY, ((condition,),)) is not holds


@pytest.mark.parametrize("every", [(ELSEWHERE,), (IN_TD, Principal(Texts(("td/*",))))])
def test_what_has_no_place_denies_more(every: tuple[Condition, ...]) -> None:
    assert not is_allowed(Action.ALLOW, (every,))
    assert not is_allowed(Action.DENY, (every,))


def test_one_alternative_without_a_place_does_not_take_the_others_along() -> None:
    assert is_allowed(Action.ALLOW, ((ELSEWHERE,), (IN_TD,)))


def test_http_is_left_out_as_a_ztunnel_leaves_it_out() -> None:
    get = Method(Texts(("GET",)))

    assert not is_allowed(Action.ALLOW, ((get,),))
    assert not is_allowed(Action.DENY, ((get, IN_TD),))
    assert is_allowed(Action.DENY, ((get, TrustDomain(Texts(("other",)))),))
