from dataclasses import fields
from ipaddress import ip_network

import pytest

from policies.attributes import ClusterName
from policies.authorizer import Authorizer
from policies.cors import Cors, OriginPattern
from policies.fault import Abort, Fault
from policies.fault_plan import FaultPlan, FaultRule, StopWhen
from policies.filters import DirectResponse, Filters
from policies.matching import Exact, Regex
from policies.mirror import Mirror
from policies.path_match import PathKind, PathMatch
from policies.rate_limit import Limit, RateLimits, RateRule
from policies.retry import RetryPolicy, retries_on_statuses
from policies.rewrite import HeaderEdit, PathEdit, Redirect, UrlRewrite
from policies.route import FieldMatch, Match, Rule, RuleSource
from policies.schedule import Schedule
from policies.selector import (
    HeaderCondition,
    IdentityCondition,
    MethodCondition,
    PathCondition,
    QueryCondition,
    SourceCondition,
)
from policies.session import SessionPersistence
from policies.timeout import Timeouts
from waypoint.ask.words import filter_words, match_words, rule_name, rule_words

CLUSTER = ClusterName("inbound-vip|9080|http|reviews.default.svc.cluster.local")
EVERY_FILTER = Filters(
    request_edit=HeaderEdit(set=((b"a", b"1"),), add=((b"b", b"2"),), remove=(b"c",), authority=b"other"),
    response_edit=HeaderEdit(remove=(b"server",)),
    rewrite=UrlRewrite(b"inner", PathEdit(b"/new", b"/old")),
    redirect=Redirect(b"https", b"away", PathEdit(b"/all"), 8443, 308),
    direct=DirectResponse(418, b"tea"),
    policies=(
        Authorizer("auth", CLUSTER, is_grpc=True, max_body_bytes=64, is_fail_open=True),
        Cors((OriginPattern(b"https://a.example"),), has_credentials=True),
        Mirror(CLUSTER, 1, 8),
    ),
)


def test_every_filter_has_words() -> None:
    words = filter_words(EVERY_FILTER)

    assert words == [
        "ask reviews.default:9080 by gRPC first, with 64 bytes of the body, and continue if it fails",
        "CORS for pages of https://a.example, with credentials",
        "redirect with 308, scheme https, host away, port 8443, the path to /all",
        "answer 418 with 3 bytes",
        "request: set host to other",
        "request: set a: 1",
        "request: add b: 2",
        "request: remove c",
        "rewrite the host to inner",
        "rewrite the prefix /old to /new",
        "copy 12.5 % to reviews.default:9080",
        "response: remove server",
    ]


@pytest.mark.parametrize("name", [field.name for field in fields(Filters) if field.init])
def test_no_filter_is_passed_over(name: str) -> None:
    assert filter_words(Filters(**{name: getattr(EVERY_FILTER, name)}))


def test_a_rule_tells_its_limits_retries_and_sessions() -> None:
    rule = Rule(
        "r",
        (),
        timeouts=Timeouts(10),
        retry=retries_on_statuses([503, 500], 3, per_try_timeout=0.25),
        filters=Filters(policies=(SessionPersistence(b"stay"),)),
    )

    assert rule_words(rule) == [
        "sessions by cookie stay",
        "timeout 10 s for the whole exchange",
        "at most 3 retries, on connect-failure, refused-stream, reset, retriable-status-codes (500, 503), "
        "250 ms for each attempt",
    ]
    assert rule_words(Rule("r", (), retry=RetryPolicy(frozenset(), attempts=0))) == ["no retries"]


def test_a_rule_tells_whom_policies_limit_and_expose_to_faults() -> None:
    whom = (
        IdentityCondition(namespaces=("default",), is_distinct=True),
        HeaderCondition(b"x", Exact(b"1"), is_inverted=True),
        HeaderCondition(b"y"),
        QueryCondition(b"q", Regex.parse("x.*")),
        PathCondition(),
        PathCondition(PathMatch(value=b"/a")),
        MethodCondition((b"GET", b"HEAD")),
        SourceCondition(ip_network("10.0.0.0/8"), is_distinct=True),
    )
    limited = RateRule("0", "bucket", Limit(5, 5.0, 5 / 60, "minute"), whom)
    shadow = RateRule("spare", "bucket", Limit(100, 10.0, 100.0), is_shadow=True)
    aborted = FaultRule("0", Fault(abort=Abort(500, 0.1)), (IdentityCondition(service_accounts=("default/page",)),))
    plan = FaultPlan("P", (aborted,), Schedule(0.0, 3600.0, "0 9 * * *", 1800.0), StopWhen(0.05, 20, 60.0))

    words = filter_words(Filters(policies=(RateLimits("L", (limited, shadow)), plan)))

    assert words == [
        "limit to 5 a minute, 5 at once for each client of default, header x not = 1, header y, each value, "
        "query q ~ x.*, each path, path prefix /a, method GET or HEAD, each address of 10.0.0.0/8 (L rules[0])",
        "count to 100 a second, 10 at once (L rules[spare])",
        "abort 10 % with 500 for clients of default/page from 1970-01-01T00:00:00+00:00 "
        "until 1970-01-01T01:00:00+00:00 at 0 9 * * * for 1800 s (P rules[0])",
        "stop faults when more than 5 % of 20 or more requests in 60 s fail",
    ]


@pytest.mark.parametrize(
    ("match", "words"),
    [
        (Match(), "every path"),
        (Match(PathMatch(value=b"/v2/")), "path prefix /v2/"),
        (Match(PathMatch(PathKind.EXACT, b"/a"), b"POST"), "path = /a, method POST"),
        (Match(PathMatch(PathKind.REGEX, b"/v[0-9]", Regex.parse("/v[0-9]"))), "path ~ /v[0-9]"),
        (
            Match(headers=(FieldMatch(b"a", Exact(b"1")),), query=(FieldMatch(b"q", Regex.parse("x.*")),)),
            "every path, header a = 1, query q ~ x.*",
        ),
    ],
)
def test_a_match_has_words(match: Match, words: str) -> None:
    assert match_words(match) == words


def test_a_rule_is_called_by_its_object_and_by_its_own_name_if_it_has_one() -> None:
    source = RuleSource("HTTPRoute", "default", "reviews", 1)

    assert rule_name(Rule("default.reviews.1", (), source=source)) == "HTTPRoute default/reviews rules[1]"
    assert rule_name(Rule("canary", (), source=source)) == "HTTPRoute default/reviews rules[1] (canary)"
    assert rule_name(Rule("default", ())) == "default route"
