"""Which DestinationRule counts for a service, what its subsets are, and how policies are laid over each other."""

import pytest

from tests.kit.destinations import RATINGS, REVIEWS, Destinations, rule

SUBSETS = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}, {name: all}]"


def sni(name: str) -> str:
    return f"tls: {{mode: SIMPLE, sni: {name}}}"


def server_name(destinations: Destinations, host: str = REVIEWS, port: int = 9080, subset: str = "") -> str:
    tls = destinations.policy_of(host, port, subset).tls
    return tls.server_name if tls is not None else ""


@pytest.mark.parametrize(
    ("subset", "addresses"), [("v1", ["10.0.0.1"]), ("v2", ["10.0.0.2"]), ("all", ["10.0.0.1", "10.0.0.2"])]
)
def test_a_subset_has_the_endpoints_with_its_labels(subset: str, addresses: list[str]) -> None:
    destinations = Destinations(rule(f"host: reviews, {SUBSETS}"))

    cluster = destinations.policy_of(subset=subset)

    assert [endpoint.ip for endpoint in cluster.endpoints] == addresses


def test_clusters_of_subsets_are_named_as_istiod_names_them() -> None:
    destinations = Destinations(
        rule(f"host: reviews, {SUBSETS}"), rule("host: ratings, subsets: [{name: v1}]", namespace="shop")
    )

    assert destinations.policy_of(subset="v1").name == f"inbound-vip|9080|http/v1|{REVIEWS}"
    assert destinations.policy_of(port=9081, subset="v1").name == f"inbound-vip|9081|tcp/v1|{REVIEWS}"
    assert destinations.policy_of(RATINGS, 8080, "v1").name == f"outbound|8080|v1|{RATINGS}"


def test_an_unknown_subset_has_no_cluster() -> None:
    destinations = Destinations(rule(f"host: reviews, {SUBSETS}"))

    assert destinations.cluster(subset="v9") is None
    assert destinations.cluster(RATINGS, 8080, "v1") is None


def test_a_subset_that_no_pod_belongs_to_has_a_cluster_without_endpoints() -> None:
    destinations = Destinations(rule("host: reviews, subsets: [{name: v9, labels: {version: v9}}]"))

    assert destinations.policy_of(subset="v9").endpoints == ()


def test_a_subset_lays_its_policy_over_that_of_the_host_field_by_field() -> None:
    own = f"subsets: [{{name: v1, trafficPolicy: {{{sni('subset')}}}}}, {{name: v2, trafficPolicy: {{}}}}]"
    destinations = Destinations(rule(f"host: reviews, trafficPolicy: {{{sni('host')}}}, {own}"))

    assert [server_name(destinations, subset=it) for it in ("", "v1", "v2")] == ["host", "subset", "host"]


def test_a_port_inherits_nothing() -> None:
    ports = f"portLevelSettings: [{{port: {{number: 9080}}, {sni('port')}}}, {{port: {{number: 9081}}}}]"
    destinations = Destinations(rule(f"host: reviews, trafficPolicy: {{{sni('host')}, {ports}}}"))

    assert server_name(destinations) == "port"
    assert destinations.policy_of(port=9081).tls is None


@pytest.mark.parametrize(
    ("namespaces", "winner"),
    [
        (["default", "shop", "istio-system"], "default"),
        (["shop", "istio-system"], "shop"),
        (["istio-system"], "istio-system"),
        (["elsewhere"], ""),
    ],
)
def test_the_waypoints_namespace_comes_first_then_the_services_then_the_root(
    namespaces: list[str], winner: str
) -> None:
    rules = [rule(f"host: {RATINGS}, trafficPolicy: {{{sni(it)}}}", namespace=it) for it in namespaces]

    assert server_name(Destinations(*rules), RATINGS, 8080) == winner


def test_an_exact_host_comes_before_a_wildcard_and_a_long_wildcard_before_a_short_one() -> None:
    short = rule(f"host: '*', trafficPolicy: {{{sni('short')}}}", "a")
    long = rule(f"host: '*.default.svc.cluster.local', trafficPolicy: {{{sni('long')}}}", "b")
    exact = rule(f"host: reviews-v2, trafficPolicy: {{{sni('exact')}}}", "c")
    destinations = Destinations(short, long, exact)

    hosts = ("reviews-v2.default.svc.cluster.local", REVIEWS)

    assert [server_name(destinations, host) for host in hosts] == ["exact", "long"]
    assert server_name(destinations, RATINGS, 8080) == "short"


@pytest.mark.parametrize(
    ("export_to", "holds"), [("['*']", True), ("[default]", True), ("['.']", False), ("[a]", False)]
)
def test_a_rule_of_another_namespace_counts_as_far_as_it_is_exported(export_to: str, holds: bool) -> None:
    own = rule(f"host: ratings, exportTo: {export_to}, trafficPolicy: {{{sni('x')}}}", namespace="shop")

    assert bool(server_name(Destinations(own), RATINGS, 8080)) is holds


def test_rules_for_one_host_add_up_to_the_oldest_policy_and_the_subsets_of_all() -> None:
    younger = rule(
        f"host: reviews, trafficPolicy: {{{sni('younger')}}}, {SUBSETS}", "a", created="2026-02-01T00:00:00Z"
    )
    older = rule(f"host: {REVIEWS}, trafficPolicy: {{{sni('older')}}}", "b", created="2026-01-01T00:00:00Z")

    destinations = Destinations(younger, older)

    assert server_name(destinations, subset="v1") == "older"


OUR_POD = """
apiVersion: v1
kind: Pod
metadata: {name: waypoint-1, labels: {gateway.networking.k8s.io/gateway-name: waypoint, tier: a}}
status: {podIP: 10.0.1.1}
"""


@pytest.mark.parametrize(("tier", "winner"), [("a", "selected"), ("b", "all")])
def test_a_rule_for_our_pods_in_particular_comes_before_those_for_all(tier: str, winner: str) -> None:
    selector = f"workloadSelector: {{matchLabels: {{tier: {tier}}}}}"
    destinations = Destinations(
        OUR_POD,
        rule(f"host: reviews, trafficPolicy: {{{sni('all')}}}", "a", created="2026-01-01"),
        rule(f"host: reviews, {selector}, trafficPolicy: {{{sni('selected')}}}", "b", created="2026-02-01"),
    )

    assert server_name(destinations) == winner
    assert destinations.rules.problems == []


def test_a_selector_means_clients_of_the_rules_own_namespace() -> None:
    selected = f"host: ratings, workloadSelector: {{matchLabels: {{tier: a}}}}, trafficPolicy: {{{sni('x')}}}"

    assert server_name(Destinations(OUR_POD, rule(selected, namespace="shop")), RATINGS, 8080) == ""


def test_what_no_port_can_have_is_told() -> None:
    destinations = Destinations(
        rule("host: reviews, subsets: [{name: v1, trafficPolicy: {proxyProtocol: {version: V2}}}]")
    )

    assert [problem.field for problem in destinations.rules.problems] == ["spec.subsets[0].trafficPolicy.proxyProtocol"]
