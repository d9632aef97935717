"""Parts of a configuration in words."""

import pytest

from policies.attributes import ClusterName
from policies.matching import Exact, Prefix, Regex, StringMatch
from policies.path_match import PathKind, PathMatch
from policies.selector import HeaderCondition, IdentityCondition, MethodCondition, PathCondition
from waypoint.config.words import cluster_name, conditions_words, path_words, percent, seconds, text, wanted

CLUSTER = ClusterName("inbound-vip|9080|http|reviews.default.svc.cluster.local")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (PathMatch(), "every path"),
        (PathMatch(PathKind.PREFIX, b"/v2"), "path prefix /v2"),
        (PathMatch(PathKind.EXACT, b"/v2"), "path = /v2"),
        (PathMatch(PathKind.TEXT_PREFIX, b"/v2"), "path = /v2*"),
        (PathMatch(PathKind.REGEX, b"/v.", Regex.parse("/v.")), "path ~ /v."),
    ],
)
def test_a_path_has_words(path: PathMatch, words: str) -> None:
    assert path_words(path) == words


@pytest.mark.parametrize(
    ("match", "words"), [(Exact(b"a"), "= a"), (Prefix(b"a"), "= a*"), (Regex.parse("a.*"), "~ a.*")]
)
def test_a_wanted_value_has_words(match: StringMatch, words: str) -> None:
    assert wanted(match) == words


def test_conditions_say_whom_they_are_for() -> None:
    whom = (
        IdentityCondition(service_accounts=("default/page",)),
        HeaderCondition(b"x", Exact(b"1"), is_inverted=True),
        PathCondition(),
        MethodCondition((b"GET", b"HEAD")),
    )

    assert conditions_words(whom) == " for clients of default/page, header x not = 1, each path, method GET or HEAD"
    assert conditions_words(()) == ""


def test_shares_are_short() -> None:
    assert [percent(0.125), percent(1.0), percent(1 / 3)] == ["12.5 %", "100 %", "33.3 %"]


def test_what_a_client_sent_cannot_move_the_cursor() -> None:
    assert text(b"a\x1b[2Jb\xff") == "a\\x1b[2Jb\\xff"


def test_clusters_and_times_are_short() -> None:
    assert cluster_name(CLUSTER) == "reviews.default:9080"
    assert cluster_name(ClusterName("outbound|443||api.example.com")) == "api.example.com:443"
    assert [seconds(0.25), seconds(1.5), seconds(60)] == ["250 ms", "1.5 s", "60 s"]
