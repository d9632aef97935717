from collections.abc import Callable
from dataclasses import replace

import pytest

from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName, Headers, Peer, RequestHead
from policies.cors import Cors, OriginPattern
from policies.fault import Delay, Fault
from policies.fault_plan import FaultPlan, FaultRule
from policies.filters import Filters
from policies.matching import Regex
from policies.mirror import Mirror
from policies.opaque import OpaqueTable
from policies.rate_limit import Limit, RateLimits, RateRule
from policies.retry import DEFAULT_RETRIES, retries_on_statuses
from policies.rewrite import HeaderEdit, PathEdit, Redirect, UrlRewrite
from policies.route import Match, Route, RouteTable, Rule, WeightedBackend
from policies.selector import HeaderCondition
from policies.session import SessionPersistence, cluster_mark
from policies.timeout import Timeouts
from waypoint.ask.effect import Effect, effect
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination

ONE, TWO = (ClusterName(f"outbound|80||{name}.default.svc.cluster.local") for name in ("one", "two"))
PEER = Peer(None, "10.0.0.1", 1)
LIMIT = RateRule("all", "all", Limit(1, 1.0, 1.0), (HeaderCondition(b"x", Regex.parse("a.*")),))
RULE = Rule("rule", (WeightedBackend(ONE, 1), WeightedBackend(TWO, 3)))


def of(rule: Rule, *headers: tuple[bytes, bytes]) -> Effect:
    routes = RouteTable([Route(Match(), rule)])
    destination = Destination(UNKNOWN_SERVICE, 80, AppProtocol.HTTP, routes, OpaqueTable())
    return effect(destination, PEER, RequestHead(b"GET", b"app", b"/a", b"", Headers(headers)), 0)


def filtered(**filters: object) -> Callable[[Rule], Rule]:
    return lambda rule: replace(rule, filters=Filters(**filters))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda rule: replace(rule, backends=rule.backends[:1]),
        lambda rule: replace(rule, backends=(WeightedBackend(ONE, 2), rule.backends[1])),
        lambda rule: replace(rule, backends=(WeightedBackend(None, 1), rule.backends[1])),
        lambda rule: replace(rule, backends=()),
        lambda rule: replace(rule, timeouts=Timeouts(1)),
        lambda rule: replace(rule, retry=retries_on_statuses([503])),
        lambda rule: replace(rule, retry=replace(DEFAULT_RETRIES, backoff=1.0)),
        filtered(policies=(SessionPersistence(b"stay"),)),
        filtered(request_edit=HeaderEdit(set=((b"a", b"1"),))),
        filtered(response_edit=HeaderEdit(set=((b"a", b"1"),))),
        filtered(rewrite=UrlRewrite(path=PathEdit(b"/b"))),
        filtered(redirect=Redirect(hostname=b"away")),
        filtered(policies=(Mirror(ONE),)),
        filtered(policies=(RateLimits("limits", (LIMIT,)),)),
        filtered(policies=(FaultPlan("plan", (FaultRule("0", Fault(Delay(1.0, 0.5))),)),)),
        filtered(policies=(Cors((OriginPattern(b"*"),)),)),
    ],
)
def test_every_change_that_somebody_could_notice_makes_another_effect(change: Callable[[Rule], Rule]) -> None:
    assert of(change(RULE)).exact != of(RULE).exact


@pytest.mark.parametrize(
    "change",
    [
        lambda rule: replace(rule, name="other"),
        lambda rule: replace(rule, backends=rule.backends[::-1]),
        lambda rule: replace(rule, backends=(WeightedBackend(ONE, 10), WeightedBackend(TWO, 30))),
        lambda rule: replace(rule, retry=DEFAULT_RETRIES),
        lambda rule: replace(rule, backends=(*rule.backends, WeightedBackend(None, 0))),
        filtered(request_edit=HeaderEdit(remove=(b"not-there",))),
    ],
)
def test_what_nobody_could_notice_is_no_other_effect(change: Callable[[Rule], Rule]) -> None:
    assert of(change(RULE)).exact == of(RULE).exact


def test_an_effect_has_words() -> None:
    edited = WeightedBackend(TWO, 3, Filters(request_edit=HeaderEdit(remove=(b"a",))))

    words = of(replace(RULE, backends=(WeightedBackend(None, 1), edited), timeouts=Timeouts(1))).words

    assert str(words) == "rule route → 25 % 500, 75 % two.default:80"
    assert words.does == ("timeout 1 s for the whole exchange", "for two.default:80: request: remove a")


def test_a_session_leads_to_one_backend_alone() -> None:
    session = SessionPersistence(b"x-stay", is_cookie=False)
    rule = replace(RULE, filters=Filters(policies=(session,)))

    kept = of(rule, (b"x-stay", cluster_mark(rule.scope, ONE) + b"0" * 16))

    assert kept.words.where == "one.default:80"
    assert kept.ends == {(ONE, 0)}


def test_where_no_waypoint_is_nothing_else_is_said() -> None:
    it = effect(None, PEER, RequestHead(b"GET", b"app", b"/", b"", []), 0)

    assert (str(it.words), it.ends) == ("no waypoint", frozenset())
