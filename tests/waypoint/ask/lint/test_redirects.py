import pytest

from tests.kit.lints import places, route
from waypoint.ask.codes import LintCode

BACK = ["HTTPRoute default/reviews spec.rules[0].filters"]


def redirect(change: str, match: str = "path: {value: /}") -> str:
    return route(f"{{matches: [{{{match}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{change}}}}}]}}")


@pytest.mark.parametrize(
    "change",
    [
        "statusCode: 301",
        "scheme: http",
        "hostname: reviews.default.svc.cluster.local, port: 80",
        "path: {type: ReplaceFullPath, replaceFullPath: /home}",
        "path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}",
    ],
)
def test_a_redirect_that_its_own_rule_takes_again_is_told(change: str) -> None:
    assert places(LintCode.REDIRECTS_TO_ITSELF, redirect(change)) == BACK


@pytest.mark.parametrize(
    "change",
    ["scheme: https", "hostname: ratings.default.svc.cluster.local", "hostname: example.com", "port: 8080"],
)
def test_a_redirect_to_elsewhere_is_left_alone(change: str) -> None:
    assert places(LintCode.REDIRECTS_TO_ITSELF, redirect(change)) == []


def test_a_redirect_out_of_what_its_rule_matches_is_left_alone() -> None:
    change = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}"

    assert places(LintCode.REDIRECTS_TO_ITSELF, redirect(change, "path: {value: /old}")) == []


def test_a_redirect_of_posts_that_browsers_follow_with_get_is_left_alone() -> None:
    assert places(LintCode.REDIRECTS_TO_ITSELF, redirect("statusCode: 303", "method: POST")) == []
    assert places(LintCode.REDIRECTS_TO_ITSELF, redirect("statusCode: 307", "method: POST")) == BACK


def test_headers_and_parameters_that_the_match_asks_for_come_along() -> None:
    match = "headers: [{name: x, value: a}], queryParams: [{name: q, value: b}]"
    unknown = "headers: [{name: x, value: a.*, type: RegularExpression}]"

    assert places(LintCode.REDIRECTS_TO_ITSELF, redirect("statusCode: 302", match)) == BACK
    assert places(LintCode.REDIRECTS_TO_ITSELF, redirect("statusCode: 302", unknown)) == []
