import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.attributes import ClusterName, Identity, Peer, RequestHead
from policies.matching import Exact, Regex
from policies.path_match import PathKind, PathMatch
from policies.query import parse_query
from policies.route import (
    FieldMatch,
    Match,
    OrderedTable,
    Route,
    RouteTable,
    Rule,
    SourceMatch,
    WeightedBackend,
    precedence,
)


def get(target: bytes, *headers: tuple[bytes, bytes], method: bytes = b"GET") -> RequestHead:
    path, mark, query = target.partition(b"?")
    return RequestHead(method, b"reviews:9080", path, query, list(headers), has_query=bool(mark))


def exact(path: bytes) -> PathMatch:
    return PathMatch(PathKind.EXACT, path)


def prefix(path: bytes) -> PathMatch:
    return PathMatch(PathKind.PREFIX, path)


def regex(text: str) -> PathMatch:
    return PathMatch(PathKind.REGEX, text.encode(), Regex.parse(text))


def header(name: bytes, value: bytes) -> FieldMatch:
    return FieldMatch(name, Exact(value))


def table(**matches: Match) -> RouteTable:
    """A table of rules that are called as the keywords say, in order of age."""
    return RouteTable(Route(match, Rule(name, ())) for name, match in matches.items())


def winner(routes: RouteTable, head: RequestHead) -> str | None:
    rule = routes.find(head)
    return rule.name if rule else None


# -- matches -------------------------------------------------------------------------------------------------------


def test_no_match_at_all_covers_every_path() -> None:
    routes = table(all=Match())

    assert winner(routes, get(b"/")) == "all"
    assert winner(routes, get(b"/any/path?q=1")) == "all"


def test_a_table_without_routes_finds_nothing() -> None:
    assert RouteTable([]).find(get(b"/")) is None


@pytest.mark.parametrize("value", [b"/v2", b"/v2/"])
@pytest.mark.parametrize(
    ("path", "is_covered"),
    [(b"/v2", True), (b"/v2/", True), (b"/v2/x/y", True), (b"/v20", False), (b"/v", False), (b"/", False)],
)
def test_a_prefix_covers_whole_segments_and_its_trailing_slash_means_nothing(
    value: bytes, path: bytes, is_covered: bool
) -> None:
    assert (winner(table(v2=Match(prefix(value))), get(path)) == "v2") is is_covered


def test_an_exact_path_is_byte_for_byte_and_ignores_the_query() -> None:
    routes = table(one=Match(exact(b"/one")))

    assert winner(routes, get(b"/one?x=1")) == "one"
    assert winner(routes, get(b"/one/")) is None
    assert winner(routes, get(b"/One")) is None


@pytest.mark.parametrize("path", [b"/", b"/a", b"/a/", b"/a/b", b"/ab", b"*"])
@pytest.mark.parametrize("match", [exact(b"/a"), prefix(b"/"), prefix(b"/a"), prefix(b"/a/"), regex("/a.*")])
def test_a_path_match_accepts_by_itself_what_a_table_finds_with_it(match: PathMatch, path: bytes) -> None:
    assert match.accepts(path) is (winner(table(it=Match(match)), get(path)) is not None)


def test_an_exact_root_does_not_catch_other_paths() -> None:
    routes = table(root=Match(exact(b"/")), expression=Match(regex("/")))

    assert winner(routes, get(b"/")) == "root"
    assert winner(routes, get(b"/other")) is None


def test_a_path_expression_matches_the_whole_path() -> None:
    routes = table(version=Match(regex("/v[0-9]+")))

    assert winner(routes, get(b"/v12")) == "version"
    assert winner(routes, get(b"/v12/x")) is None


def test_a_method_is_compared_with_case() -> None:
    routes = table(post=Match(method=b"POST"))

    assert winner(routes, get(b"/", method=b"POST")) == "post"
    assert winner(routes, get(b"/", method=b"post")) is None


def test_all_headers_of_a_match_must_be_there() -> None:
    routes = table(both=Match(headers=(header(b"a", b"1"), FieldMatch(b"b", Regex.parse("[0-9]+")))))

    assert winner(routes, get(b"/", (b"a", b"1"), (b"b", b"22"))) == "both"
    assert winner(routes, get(b"/", (b"a", b"1"), (b"b", b"x"))) is None
    assert winner(routes, get(b"/", (b"a", b"1"))) is None


def test_a_match_of_the_host_header_looks_at_the_authority() -> None:
    routes = table(ours=Match(headers=(header(b"host", b"reviews:9080"),)))
    elsewhere = RequestHead(b"GET", b"ratings:9080", b"/", b"", [])

    assert winner(routes, get(b"/")) == "ours"
    assert winner(routes, elsewhere) is None


def test_query_parameters_are_compared_decoded_and_the_first_of_a_name_counts() -> None:
    routes = table(jason=Match(query=(FieldMatch(b"user", Exact(b"jason b")),)))

    assert winner(routes, get(b"/?user=jason%20b&user=x")) == "jason"
    assert winner(routes, get(b"/?user=x&user=jason%20b")) is None
    assert winner(routes, get(b"/?User=jason%20b")) is None
    assert winner(routes, get(b"/")) is None


def test_a_parameter_without_value_is_empty() -> None:
    assert parse_query(b"a&b=&c=1=2") == {b"a": b"", b"b": b"", b"c": b"1=2"}


# -- precedence ----------------------------------------------------------------------------------------------------


def test_an_exact_path_is_stronger_than_a_prefix_and_that_than_an_expression() -> None:
    routes = table(expression=Match(regex("/a.*")), prefix=Match(prefix(b"/a")), exact=Match(exact(b"/a")))

    assert winner(routes, get(b"/a")) == "exact"
    assert winner(routes, get(b"/a/b")) == "prefix"
    assert winner(routes, get(b"/ab")) == "expression"


def test_a_longer_prefix_is_stronger_than_more_conditions() -> None:
    routes = table(short=Match(prefix(b"/a"), b"GET", (header(b"x", b"1"),)), long=Match(prefix(b"/a/b")))

    assert winner(routes, get(b"/a/b/c", (b"x", b"1"))) == "long"


def test_on_one_path_method_then_headers_then_query_parameters_decide() -> None:
    routes = table(
        plain=Match(),
        query=Match(query=(FieldMatch(b"q", Exact(b"1")),)),
        header=Match(headers=(header(b"x", b"1"),)),
        method=Match(method=b"GET"),
    )

    assert winner(routes, get(b"/?q=1", (b"x", b"1"))) == "method"
    assert winner(routes, get(b"/?q=1", (b"x", b"1"), method=b"PUT")) == "header"
    assert winner(routes, get(b"/?q=1", method=b"PUT")) == "query"
    assert winner(routes, get(b"/", method=b"PUT")) == "plain"


def test_of_equals_the_first_wins() -> None:
    assert winner(table(older=Match(), younger=Match()), get(b"/")) == "older"


def test_a_request_that_fails_a_long_prefix_falls_to_a_shorter_one() -> None:
    routes = table(post=Match(prefix(b"/a/b"), method=b"POST"), rest=Match(prefix(b"/a")))

    assert winner(routes, get(b"/a/b/c")) == "rest"


# -- the same as a model that is obviously right -------------------------------------------------------------------


def model(routes: list[Route], head: RequestHead) -> Rule | None:
    """Try every route, take the strongest that holds."""
    holding = [route for route in routes if path_holds(route.match.path, head.path) and route.match.accepts_rest(head)]
    return min(holding, key=lambda route: precedence(route.match)).rule if holding else None


def path_holds(match: PathMatch, path: bytes) -> bool:
    if match.kind is PathKind.EXACT:
        return path == match.value
    if match.kind is PathKind.PREFIX:
        wanted = [segment for segment in match.value.split(b"/") if segment]
        return path.split(b"/")[1 : 1 + len(wanted)] == wanted
    assert match.regex is not None
    return match.regex.accepts(path)


PATHS = st.lists(st.sampled_from([b"a", b"b", b"ab", b"aa"]), max_size=4).map(lambda parts: b"/" + b"/".join(parts))
REQUEST_PATHS = st.builds(lambda path, tail: path + tail, PATHS, st.sampled_from([b"", b"", b"/"])).map(
    lambda path: path.replace(b"//", b"/")
)
PATH_MATCHES = st.one_of(
    st.builds(exact, REQUEST_PATHS),
    st.builds(prefix, REQUEST_PATHS),
    st.builds(regex, st.sampled_from(["/", "/a", "/a/.*", ".*b", "/(a|b)(/ab)?", ".*"])),
)
FIELDS = st.lists(
    st.builds(header, st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"2"])),
    max_size=2,
    unique_by=lambda f: f.name,
).map(tuple)
MATCHES = st.builds(Match, PATH_MATCHES, st.sampled_from([None, None, b"GET", b"PUT"]), FIELDS, FIELDS)
PAIRS = st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"2"])), max_size=3)
HEADS = st.builds(
    lambda method, path, headers, query: RequestHead(
        method, b"a", path, b"&".join(b"=".join(pair) for pair in query), headers, has_query=bool(query)
    ),
    st.sampled_from([b"GET", b"PUT"]),
    REQUEST_PATHS,
    PAIRS,
    PAIRS,
)


@settings(max_examples=400)
@given(matches=st.lists(MATCHES, max_size=12), heads=st.lists(HEADS, min_size=1, max_size=8))
def test_the_winner_is_that_of_the_model(matches: list[Match], heads: list[RequestHead]) -> None:
    routes = [Route(match, Rule(str(number), ())) for number, match in enumerate(matches)]
    routes_table = RouteTable(routes)

    for head in heads:
        assert routes_table.find(head) == model(routes, head)


def test_a_lookup_does_not_grow_with_the_number_of_routes() -> None:
    def seconds(count: int) -> float:
        kinds = (exact, prefix)
        routes = [
            Route(Match(kinds[number % 2](b"/shop/%d/items" % number)), Rule(str(number), ()))
            for number in range(count)
        ]
        routes_table = RouteTable(routes)
        head = get(b"/shop/7/items/blue/small")
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(500):
                assert routes_table.find(head) is not None
            rounds.append(time.perf_counter() - start)
        return min(rounds)

    assert seconds(10_000) < 5 * seconds(10)


# -- backends ------------------------------------------------------------------------------------------------------


def backend(name: str, weight: int = 1) -> WeightedBackend:
    return WeightedBackend(ClusterName(name), weight)


def test_backends_have_the_share_of_their_weight() -> None:
    rule = Rule("split", (backend("v1", 90), backend("v2", 10), backend("v3", 0)))

    picked = [rule.pick(hundredth / 100) for hundredth in range(100)]

    assert [picked.count(it) for it in rule.backends] == [90, 10, 0]


def test_a_backend_that_leads_nowhere_keeps_its_share() -> None:
    nowhere = WeightedBackend(None, 1)

    assert Rule("half", (backend("v1"), nowhere)).pick(0.75) is nowhere


@pytest.mark.parametrize("backends", [(), (backend("v1", 0),), (backend("v1", 0), backend("v2", 0))])
def test_nothing_is_picked_when_no_backend_has_weight(backends: tuple[WeightedBackend, ...]) -> None:
    assert Rule("none", backends).pick(0.0) is None


def test_a_single_backend_is_picked_whatever_its_weight() -> None:
    only = backend("v1", 7)

    assert Rule("one", (only,)).pick(0.999) is only


# -- ordered tables ------------------------------------------------------------------------------------------------

ALICE = Peer(Identity("cluster.local", "alice", "app"), "10.0.0.1", 1)


def _ordered(*matches: Match) -> OrderedTable:
    return OrderedTable([Route(match, Rule(str(number), ())) for number, match in enumerate(matches)])


@pytest.mark.parametrize(
    ("source", "is_for_alice"),
    [
        (SourceMatch("alice"), True),
        (SourceMatch("bob"), False),
        (SourceMatch(None, frozenset({"10.0.0.1"})), True),
        (SourceMatch("alice", frozenset({"10.0.0.2"})), False),
        (SourceMatch(None, frozenset()), False),
    ],
)
def test_a_match_may_be_for_some_clients_alone(source: SourceMatch, is_for_alice: bool) -> None:
    head = RequestHead(b"GET", b"app", b"/", b"", [])

    found = _ordered(Match(source=source), Match()).find(head, ALICE)

    assert found is not None
    assert found.name == ("0" if is_for_alice else "1")


def test_nobody_is_some_client() -> None:
    head = RequestHead(b"GET", b"app", b"/", b"", [])

    assert _ordered(Match(source=SourceMatch("alice"))).find(head, Peer(None, "10.0.0.1", 1)) is None
    assert _ordered(Match(source=SourceMatch("alice"))).find(head) is None


def test_the_first_that_holds_wins() -> None:
    table = _ordered(Match(PathMatch(PathKind.TEXT_PREFIX, b"/a")), Match(PathMatch(PathKind.EXACT, b"/ab")))

    found = table.find(RequestHead(b"GET", b"app", b"/ab", b"", []))

    assert found is not None
    assert found.name == "0"
