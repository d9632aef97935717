"""The output of `explain`, and its agreement with the data path."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from l4.config.settings import Settings
from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol
from policies.attributes import ClusterName
from policies.matching import Exact, Regex
from policies.opaque import OpaqueTable
from policies.path_match import PathKind, PathMatch
from policies.route import FieldMatch, Match, Route, RouteTable, Rule, RuleSource, WeightedBackend
from tests.kit.aio import run
from tests.kit.mesh import Mesh, settled
from tests.kit.origin import answering, origin
from tests.waypoint.test_exchange import Setting, route
from waypoint.admission.decide import decide
from waypoint.ask.explain import explain, snapshot_for
from waypoint.ask.explanation import Explanation, Verdict
from waypoint.ask.load import load
from waypoint.ask.question import InvalidQuestion, Question, as_exchanged
from waypoint.cli import cli
from waypoint.config.snapshot import ClusterConfig, Destination, ServiceLabels, Snapshot

GOLDEN = Path(__file__).parents[2] / "golden"

MESH = GOLDEN / "mesh.yaml"
ROUTES = GOLDEN / "explain" / "routes.yaml"
FILES = [MESH, ROUTES]


def explained(
    to: str,
    target: str = "/",
    *headers: str,
    client: str = "default/client",
    method: str = "GET",
    files: list[Path] = FILES,
) -> Explanation:
    loaded = load(files, None, Settings())
    question = Question.parse(client, to, method, target, headers)
    return explain(snapshot_for(loaded, question), question, Settings(), now=0)


def verdicts(explanation: Explanation) -> dict[str, tuple[Verdict, tuple[str, ...]]]:
    assert explanation.candidates is not None
    return {it.match: (it.verdict, it.reasons) for it in explanation.candidates.matches}


# -- the answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "target", "method", "answer"),
    [
        (
            "reviews:9080",
            "/v2?a=b",
            "GET",
            "HTTPRoute default/reviews rules[1] → 90 % reviews.default:9080, "
            "10 % 500 (the rule refers to an unusable backend)",
        ),
        ("reviews:9080", "/edit", "GET", "404 (no rule matches)"),
        (
            "reviews:9080",
            "/away/x",
            "GET",
            "HTTPRoute default/reviews rules[2] → 301 to http://away.example:9080/away/x",
        ),
        ("reviews:9081", "/", "GET", "default route → reviews.default:9081"),
        ("reviews-v2", "/", "GET", "default route → reviews-v2.default:9080"),
        ("reviews:9080", "/%00", "GET", "400, rejected before routing: path_normalization_failed"),
        ("reviews:7", "/", "GET", "no waypoint serves it: service reviews.default.svc.cluster.local has no port 7"),
        ("ratings.shop", "/", "GET", "no waypoint handles it: ratings.shop.svc.cluster.local is not bound to one"),
        ("nobody:80", "/", "GET", "no waypoint serves it: nobody is no known service"),
    ],
)
def test_the_first_line_is_the_answer(to: str, target: str, method: str, answer: str) -> None:
    assert explained(to, target, method=method).summary == f"{method} {to}{target} from default/client → {answer}"


def test_each_match_says_why_it_lost() -> None:
    assert verdicts(explained("reviews:9080", "/v2", "End-User: eve")) == {
        "path = /edit, method POST": (Verdict.LOST, ("the path is /v2", "the method is GET")),
        "path prefix /v2, header end-user = jason": (Verdict.LOST, ("header end-user is eve, not = jason",)),
        "path prefix /v2": (Verdict.WON, ()),
        "path prefix /away": (Verdict.LOST, ("the path /v2 is not below /away",)),
    }


def test_each_match_that_would_have_held_says_by_what_it_is_weaker() -> None:
    told = verdicts(explained("reviews:9080", "/v2", "end-user: jason"))

    assert told["path prefix /v2, header end-user = jason"] == (Verdict.WON, ())
    assert told["path prefix /v2"] == (Verdict.WEAKER, ("matches too, but it matches on fewer headers",))


def test_clients_of_a_namespace_with_routes_of_its_own_get_those() -> None:
    theirs = explained("reviews.default:9080", client="shop/client")

    assert theirs.candidates is not None
    assert theirs.candidates.whose == "consumer"
    assert theirs.candidates.objects == ("HTTPRoute shop/ours",)
    assert theirs.summary.endswith("→ HTTPRoute shop/ours rules[0] → ratings.shop:8080")


def test_a_rule_tells_what_it_does_and_what_is_wrong_with_it() -> None:
    rule = explained("reviews:9080", "/v2").rule

    assert rule is not None
    assert rule.route_name == "default.reviews.1"
    assert rule.does == (
        "request: set x-env: test",
        "request: remove cookie",
        "copy 5 % to reviews-v2.default:9080",
        "timeout 1.5 s for the whole exchange",
    )
    (problem,) = rule.problems
    assert "spec.rules[1].backendRefs[1].name: there is no Service default/nowhere" in problem


@pytest.mark.parametrize(("target", "asks"), [("/admin/a", True), ("/", False)])
def test_whom_a_custom_policy_asks_is_told_and_not_asked(target: str, asks: bool) -> None:
    rule = explained("reviews:9080", target, files=[MESH, GOLDEN / "authorization-custom.in.yaml"]).rule

    assert rule is not None
    words = (
        "ask reviews-v2.default:9080 by HTTP first, with 1024 bytes of the body, and continue if it fails, "
        "because of AuthorizationPolicies"
    )
    assert rule.does == ((words,) if asks else ())


def test_every_provider_that_policies_want_asked_is_told(tmp_path: Path) -> None:
    custom, more = GOLDEN / "authorization-custom.in.yaml", tmp_path / "more.yaml"
    _, policy, _ = custom.read_text().split("\n---\n")
    more.write_text(policy.replace("name: a,", "name: c,").replace("over-http", "over-grpc"))

    rule = explained("reviews:9080", "/admin", files=[MESH, custom, more]).rule

    assert rule is not None
    first, second = rule.does
    assert first.startswith("ask reviews-v2.default:9080 by HTTP first")
    assert second == "deny: the authorizer over-grpc cannot be resolved, because of AuthorizationPolicies"


def test_an_outcome_has_its_endpoints_and_what_they_would_see() -> None:
    outcome, unresolved = explained("reviews:9080", "/v2?a=b", "Cookie: c", "Host: Reviews.").outcomes

    assert [(it.address, it.over, it.is_healthy) for it in outcome.endpoints] == [
        ("10.0.0.1:9080", "HBONE", True),
        ("10.0.0.2:9080", "HBONE", True),
    ]
    assert outcome.sees is not None
    assert (outcome.sees.authority, outcome.sees.target) == ("reviews", "/v2?a=b")
    assert ("x-env", "test") in outcome.sees.headers
    assert "cookie" not in dict(outcome.sees.headers)
    assert unresolved.answer is not None
    assert (unresolved.answer.status, unresolved.answer.flag) == (500, "NC")


def test_endpoints_that_are_not_ready_are_told_and_when_there_are_no_others_the_answer_is_503(tmp_path: Path) -> None:
    sick = (
        (GOLDEN / "mesh.yaml")
        .read_text()
        .replace("{podIP: 10.0.0.2}", "{podIP: 10.0.0.2, conditions: [{type: Ready, status: 'False'}]}")
    )
    (tmp_path / "mesh.yaml").write_text(sick)

    told = explained("reviews-v2:9080", files=[tmp_path])

    assert told.summary.endswith("→ reviews-v2.default:9080 (503, no endpoint is ready)")
    assert [(it.address, it.is_healthy) for it in told.outcomes[0].endpoints] == [("10.0.0.2:9080", False)]


def test_the_destination_says_whose_label_bound_it() -> None:
    found = explained("10.96.0.1:9080").found

    assert (found.service, found.waypoint) == ("reviews.default.svc.cluster.local", "default/waypoint")
    assert found.why.endswith("by the label istio.io/use-waypoint of Service default/reviews")


def test_a_workload_that_is_called_by_its_own_address_is_named(tmp_path: Path) -> None:
    mesh = MESH.read_text().replace(
        "name: waypoint, namespace: default}",
        "name: waypoint, namespace: default, labels: {istio.io/waypoint-for: all}}",
    )
    (tmp_path / "mesh.yaml").write_text(
        mesh.replace("version: v1}", "version: v1, istio.io/use-waypoint: waypoint}", 1)
    )

    told = explained("10.0.0.1:9080", files=[tmp_path])

    assert told.summary.endswith("→ default route → 10.0.0.1:9080")
    assert told.found.service == "workload reviews-v1.default"
    assert told.found.why.endswith("of Pod default/reviews-v1")


def test_a_label_that_came_to_nothing_says_why(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "apiVersion: v1\nkind: Service\n"
        "metadata: {name: s, labels: {istio.io/use-waypoint: nobody}}\nspec: {ports: [{port: 80}]}"
    )

    found = explained("s", files=[tmp_path]).found

    assert not found.is_served
    assert ["the Gateway does not exist" in problem for problem in found.problems] == [True]


def test_of_several_waypoints_the_one_that_serves_the_service_is_asked_and_another_one_says_so(
    tmp_path: Path,
) -> None:
    mesh = MESH.read_text()
    second = mesh.split("\n---\n")[0].replace("name: waypoint,", "name: a-second,")
    bound = mesh.replace(
        "name: ratings, namespace: shop}",
        "name: ratings, namespace: shop, "
        "labels: {istio.io/use-waypoint: a-second, istio.io/use-waypoint-namespace: default}}",
        1,
    )
    (tmp_path / "mesh.yaml").write_text(f"{bound}\n---\n{second}")
    question = Question.parse("default/client", "ratings.shop", "GET", "/", ())
    loaded = load([tmp_path], None, Settings())

    served = explain(snapshot_for(loaded, question), question, Settings(), now=0)
    elsewhere = explain(loaded.snapshots["default", "waypoint"], question, Settings(), now=0)

    assert served.found.waypoint == "default/a-second"
    assert served.found.is_served
    assert elsewhere.found.why.endswith("ratings.shop.svc.cluster.local is bound to default/a-second")


def test_a_canary_serves_and_the_shares_of_both_are_told(tmp_path: Path) -> None:
    mesh = MESH.read_text()
    second = mesh.split("\n---\n")[0].replace("name: waypoint,", "name: a-second,")
    canary = mesh.replace(
        "istio.io/use-waypoint: waypoint",
        "istio.io/use-waypoint: waypoint, istio.io/use-waypoint-canary: a-second",
    )
    (tmp_path / "mesh.yaml").write_text(f"{canary}\n---\n{second}")
    question = Question.parse("default/client", "reviews:9080", "GET", "/", ())
    loaded = load([tmp_path], None, Settings())

    for name in ("waypoint", "a-second"):
        found = explain(loaded.snapshots["default", name], question, Settings(), now=0).found
        assert found.is_served
        assert found.why.endswith("of its connections, default/waypoint gets 100 % and default/a-second gets 0 %")


def test_a_service_that_leaves_is_told_as_served() -> None:
    question = Question.parse("default/client", "reviews:9080", "GET", "/", ())
    snapshot = snapshot_for(load([MESH], None, Settings()), question)
    destinations = {place: replace(it, is_leaving=True) for place, it in snapshot.destinations.items()}

    found = explain(replace(snapshot, destinations=destinations), question, Settings(), now=0).found

    assert found.is_served
    assert found.why == "bound to this waypoint no longer, and served for a moment more"


# -- never anything else than the data path does -------------------------------------------------------------------

PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b"]
VALUES = st.sampled_from([Exact(b"1"), Exact(b"2"), Regex.parse("[12]")])
FIELDS = st.lists(
    st.builds(FieldMatch, st.sampled_from([b"x", b"y", b"host", b"x-forwarded-proto"]), VALUES), max_size=2
).map(tuple)
MATCHES = st.builds(
    Match,
    st.one_of(
        st.builds(
            PathMatch, st.sampled_from([PathKind.EXACT, PathKind.PREFIX]), st.sampled_from(PATHS).map(str.encode)
        ),
        st.sampled_from(["/a.*", "/.*b", "/a/b"]).map(
            lambda it: PathMatch(PathKind.REGEX, it.encode(), Regex.parse(it))
        ),
    ),
    st.sampled_from([None, b"GET", b"POST"]),
    FIELDS,
    FIELDS,
)
WEIGHTS = st.lists(st.integers(0, 3), max_size=3)
HEADERS = st.lists(st.sampled_from(["x: 1", "x: 3", "y: 2", "Y: 1"]), max_size=2).map(tuple)
QUERIES = st.sampled_from(["", "?", "?x=1", "?y=2&x=2", "?x=%31"])
CLUSTERS = [ClusterName(f"outbound|80||app-{number}.default.svc.cluster.local") for number in range(3)]


def snapshot_of(matches: list[Match], weights: list[list[int]]) -> Snapshot:
    routes = [
        Route(
            match,
            Rule(
                f"rule-{n}",
                tuple(map(WeightedBackend, CLUSTERS, its)),
                source=RuleSource("HTTPRoute", "a", "b", n),
            ),
        )
        for n, (match, its) in enumerate(zip(matches, weights, strict=True))
    ]
    labels = ServiceLabels("app.default.svc.cluster.local", "app", "default")
    destination = Destination(labels, 80, AppProtocol.HTTP, RouteTable(routes), OpaqueTable())
    return Snapshot(
        "1",
        Registry(),
        {("app", 80): destination},
        {name: ClusterConfig(name, labels, 80, AppProtocol.HTTP, ()) for name in CLUSTERS},
    )


@settings(max_examples=300)
@given(
    st.lists(st.tuples(MATCHES, WEIGHTS), max_size=8),
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(PATHS),
    QUERIES,
    HEADERS,
    st.floats(0, 1, exclude_max=True),
)
def test_the_winner_and_what_becomes_of_the_request_are_those_of_decide(
    routes: list[tuple[Match, list[int]]], method: str, path: str, query: str, headers: tuple[str, ...], roll: float
) -> None:
    snapshot = snapshot_of([match for match, _ in routes], [weights for _, weights in routes])
    question = Question.parse("default/client", "app:80", method, path + query, headers)

    told = explain(snapshot, question, Settings(), now=0)

    destination = snapshot.destinations["app", 80]
    head = as_exchanged(question.head(Settings()), destination)
    decision = decide(destination, question.peer(Settings()), head, lambda chance: roll)
    assert told.candidates is not None
    winners = [it.rule for it in told.candidates.matches if it.verdict is Verdict.WON]
    assert winners == ([f"{decision.rule.source} ({decision.rule.name})"] if decision.rule else [])
    assert (told.rule.route_name if told.rule else None) == (decision.rule.name if decision.rule else None)
    assert sum(it.share for it in told.outcomes) == pytest.approx(1)
    if decision.error is not None:
        assert [it.answer.detail for it in told.outcomes if it.answer] == [decision.error.detail]
    else:
        assert decision.rule is not None
        assert decision.cluster in {it.cluster for it in told.outcomes}
        assert {it.cluster: it.weight for it in told.outcomes} == {
            it.cluster: it.weight for it in decision.rule.backends if it.weight
        }


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/v2", (), "versions"),
        ("/v2/../x", (), "rest"),
        ("/%76%32/y", (), "versions"),
        ("/v2", ("End-User: jason",), "jason"),
    ],
)
def test_the_route_in_the_access_log_is_the_one_that_explain_names(
    tmp_path: Path, target: str, headers: tuple[str, ...], expected: str
) -> None:
    rules = route(
        "{name: jason, matches: [{headers: [{name: end-user, value: jason}], path: {value: /v2}}], "
        "backendRefs: [{name: app, port: 9080}]}, "
        "{name: versions, matches: [{path: {value: /v2}}], backendRefs: [{name: app, port: 9080}]}, "
        "{name: rest, backendRefs: [{name: app, port: 9080}]}"
    )

    async def scenario(it: Mesh, at: Setting) -> None:
        question = Question.parse("default/client", at.authority, "GET", target, ("Host: app", *headers))
        told = explain(it.holder.current, question, Settings(), time.time())

        await it.get(at.authority, target, "".join(f"{header}\r\n" for header in headers))
        await settled(lambda: bool(it.access_log))

        assert told.rule is not None
        assert told.rule.route_name == expected
        assert it.access_log.splitlines()[-1].endswith(f" {expected}")

    async def whole() -> None:
        at = Setting()
        async with origin(at.pod, answering()), at.mesh(tmp_path, rules) as it:
            await scenario(it, at)

    run(whole())


def test_of_a_large_table_the_matches_with_the_same_path_are_told_and_the_others_counted(tmp_path: Path) -> None:
    one = ROUTES.read_text().split("---")[0]
    many = [
        one.replace("name: reviews, namespace", f"name: r{number}, namespace").replace("/v2", f"/v2/{number}")
        for number in range(200)
    ]
    (tmp_path / "routes.yaml").write_text("---\n".join(many))

    told = explained("reviews:9080", "/v2/150", files=[MESH, tmp_path]).candidates
    text = CliRunner().invoke(
        cli, ["explain", "--resources", str(MESH), "--resources", str(tmp_path), "--to", "reviews:9080"]
    )

    assert told is not None
    assert [it.rule for it in told.matches if it.verdict is Verdict.WON] == ["HTTPRoute default/r150 rules[1]"]
    assert len(told.matches) + told.left_out == 800
    assert len(told.matches) < 60
    assert "and 190 more\n" in text.stdout
    assert "and 750 more with other paths\n" in text.stdout


def test_a_port_that_is_left_open_must_be_the_only_one() -> None:
    with pytest.raises(InvalidQuestion, match="has the ports"):
        explained("reviews")


POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: default}
spec:
  targetRefs: [{kind: Service, name: reviews}]
  rules:
  - to: [{operation: {methods: [GET]}}]
  - from: [{source: {namespaces: [admin]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: trial, namespace: default, annotations: {istio.io/dry-run: "true"}}
spec: {targetRefs: [{kind: Service, name: reviews}], action: DENY, rules: [{}]}
"""


@pytest.mark.parametrize(("port", "first"), [(9080, 0), (9081, 1)], ids=["http", "bytes, where a rule is left out"])
def test_it_says_which_rules_of_policies_match_and_why_a_request_is_denied(
    tmp_path: Path, port: int, first: int
) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES)

    it = explained(f"reviews:{port}", method="POST", files=[MESH, file])

    assert "403 (there are ALLOW policies, but none allows this)" in it.summary
    assert [(told.policy, told.action, told.words, told.is_matching, told.is_dry_run) for told in it.policies] == [
        ("default/readers", "ALLOW", "rules[0]: request.method in GET", False, False),
        ("default/readers", "ALLOW", "rules[1]: source.namespace in admin", False, False),
        ("default/trial", "DENY", "rules[0]: everything", True, True),
    ][first:]


def test_it_says_which_of_the_rules_that_match_decides(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES.replace("rules: [{}]", "rules: [{to: [{operation: {ports: ['1']}}]}]") + ANYBODY)

    it = explained("reviews:9080", method="GET", files=[MESH, file])

    assert [(told.policy, told.is_matching, told.is_deciding) for told in it.policies] == [
        ("default/anybody", True, True),
        ("default/readers", True, False),
        ("default/readers", False, False),
        ("default/trial", False, False),
    ]
    command = ["explain", "--resources", str(MESH), "--resources", str(file), "--to", "reviews:9080"]
    assert "ALLOW default/anybody (decides) rules[0]: everything" in CliRunner().invoke(cli, command).stdout


ANYBODY = """---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anybody, namespace: default}
spec: {targetRefs: [{kind: Service, name: reviews}], rules: [{}]}
"""


# -- services outside --------------------------------------------------------------------------------------------------

OUTSIDE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: hosts, namespace: default, labels: {istio.io/use-waypoint: waypoint}}
spec:
  hosts: ['*.example.com']
  addresses: [10.98.0.0/24]
  exportTo: ['.']
  resolution: DYNAMIC_DNS
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: default, labels: {istio.io/use-waypoint: waypoint}}
spec: {hosts: [api.example.org], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
"""


@pytest.mark.parametrize(
    ("to", "client", "answer"),
    [
        ("a.example.com:80", "default/client", "(the host that the request names):8080"),
        ("api.example.org:80", "default/client", "api.example.org:80"),
    ],
)
def test_endpoints_that_are_found_out_later_are_told_as_what_they_are(
    tmp_path: Path, to: str, client: str, answer: str
) -> None:
    (tmp_path / "outside.yaml").write_text(OUTSIDE)

    told = explained(to, client=client, files=[MESH, tmp_path / "outside.yaml"])

    [outcome] = told.outcomes
    assert outcome.answer is None
    assert [endpoint.address for endpoint in outcome.endpoints] == [answer]


def test_a_host_that_a_wildcard_does_not_take_is_404(tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text(OUTSIDE)

    told = explained("10.98.0.7:80", "/", "host: example.org", files=[MESH, tmp_path / "outside.yaml"])

    [outcome] = told.outcomes
    assert outcome.answer is not None
    assert outcome.answer.status == 404


def test_what_is_not_exported_to_the_client_is_told(tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text(OUTSIDE)

    told = explained("a.example.com:80", client="shop/client", files=[MESH, tmp_path / "outside.yaml"])

    assert told.outcomes == ()
    assert "ServiceEntry default/hosts exports the host *.example.com only to default" in told.summary
