from hypothesis import given, settings
from hypothesis import strategies as st

from policies.attributes import RequestHead
from policies.matching import Exact, Regex
from policies.path_match import PathKind, PathMatch
from policies.route import FieldMatch, Match, Route, RouteTable, Rule
from waypoint.ask.lint.shadows import shadows


def path(kind: PathKind, value: str) -> PathMatch:
    return PathMatch(kind, value.encode(), Regex.parse(value) if kind is PathKind.REGEX else None)


def exact(value: str, **rest: object) -> Match:
    return Match(path(PathKind.EXACT, value), **rest)  # type: ignore[arg-type]


def prefix(value: str, **rest: object) -> Match:
    return Match(path(PathKind.PREFIX, value), **rest)  # type: ignore[arg-type]


def regex(value: str, **rest: object) -> Match:
    return Match(path(PathKind.REGEX, value), **rest)  # type: ignore[arg-type]


def header(name: str, value: str) -> FieldMatch:
    return FieldMatch(name.encode(), Exact(value.encode()))


def table_of(*matches: Match) -> RouteTable:
    return RouteTable(Route(match, Rule(str(number), ())) for number, match in enumerate(matches))


def shadowed(*matches: Match) -> dict[str, str]:
    """The number of each match that is never found, and of that which takes its requests."""
    return {it.route.rule.name: it.taker.rule.name for it in shadows(table_of(*matches))}


def test_of_equal_matches_the_later_one_is_never_found() -> None:
    assert shadowed(prefix("/a"), prefix("/a")) == {"1": "0"}
    assert shadowed(exact("/a", method=b"GET"), exact("/a", method=b"GET")) == {"1": "0"}


def test_the_order_of_headers_makes_no_match_another_one() -> None:
    one, other = header("a", "1"), header("b", "2")

    assert shadowed(prefix("/", headers=(one, other)), prefix("/", headers=(other, one))) == {"1": "0"}


def test_a_match_that_asks_for_something_else_is_found() -> None:
    assert shadowed(prefix("/a"), prefix("/b"), exact("/a"), prefix("/a", method=b"GET")) == {}
    assert shadowed(prefix("/", headers=(header("a", "1"),)), prefix("/", headers=(header("a", "2"),))) == {}


def test_a_catch_all_that_is_older_does_not_take_what_more_specific_ones_ask_for() -> None:
    assert shadowed(prefix("/"), prefix("/", headers=(header("a", "1"),)), prefix("/a")) == {}


def test_a_prefix_with_a_slash_is_longer_and_takes_all_of_the_one_without() -> None:
    assert shadowed(prefix("/a", method=b"GET"), prefix("/a/")) == {"0": "1"}
    assert shadowed(prefix("/a"), prefix("/a/", method=b"GET")) == {}


def test_a_prefix_takes_the_regular_expressions_that_lie_under_it() -> None:
    assert shadowed(regex("/a/[0-9]+"), prefix("/a")) == {"0": "1"}
    assert shadowed(regex("/a/[0-9]+", method=b"GET"), prefix("/")) == {"0": "1"}
    assert shadowed(regex(".*"), prefix("/")) == {"0": "1"}


def test_a_prefix_takes_no_regular_expression_that_may_lie_elsewhere() -> None:
    assert shadowed(regex("/a[0-9]+"), prefix("/a")) == {}
    assert shadowed(regex("/a/b|/c"), prefix("/a")) == {}
    assert shadowed(regex("/a/?b"), prefix("/a")) == {}
    assert shadowed(regex("/a/[0-9]+"), prefix("/a", method=b"GET")) == {}


PATHS = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/ab", "/b"])
EXPRESSIONS = st.sampled_from(
    ["/a/.*", "/a/?b", "/a|/b", "/a", ".*", "(?i)/A", "/a/b*", "/a/b+", "/ab{0}", "[/]a", "/a/\\w"]
)
FIELDS = st.lists(
    st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([Exact(b"1"), Exact(b"2"), Regex.parse("1|2")])),
    max_size=2,
    unique_by=lambda field: field[0],
).map(lambda fields: tuple(FieldMatch(*field) for field in fields))
METHODS = st.sampled_from([None, None, b"GET", b"POST"])
MATCHES = st.one_of(
    st.builds(exact, PATHS, method=METHODS, headers=FIELDS, query=FIELDS),
    st.builds(prefix, PATHS, method=METHODS, headers=FIELDS, query=FIELDS),
    st.builds(regex, EXPRESSIONS, method=METHODS, headers=FIELDS, query=FIELDS),
)
REQUEST_PATHS = st.one_of(
    st.sampled_from([b"/", b"/a", b"/a/", b"/a/b", b"/A", b"/ab", b"/b", b"/a/b/c", b"*", b"/aa", b"/a/bb", b"/b/a"]),
    st.lists(st.sampled_from([b"/", b"a", b"b", b"c"]), max_size=6).map(b"".join),
)
VALUES = st.dictionaries(st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"2", b"3"]))
HEADS = st.builds(
    lambda method, path, query, headers: RequestHead(
        method,
        b"reviews",
        path,
        b"&".join(b"=".join(pair) for pair in query.items()),
        list(headers.items()),
        bool(query),
    ),
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    REQUEST_PATHS,
    VALUES,
    VALUES,
)


@settings(max_examples=120)
@given(st.lists(MATCHES, max_size=12), st.lists(HEADS, min_size=20, max_size=60))
def test_what_is_told_to_be_shadowed_is_never_found(matches: list[Match], heads: list[RequestHead]) -> None:
    table = table_of(*matches)
    shadowed_rules = {it.route.rule.name for it in shadows(table)}

    found = {rule.name for head in heads if (rule := table.find(head)) is not None}

    assert not found & shadowed_rules


@settings(max_examples=120)
@given(st.lists(MATCHES, max_size=12), st.lists(HEADS, min_size=20, max_size=60))
def test_without_what_is_shadowed_every_request_finds_the_same(matches: list[Match], heads: list[RequestHead]) -> None:
    table = table_of(*matches)
    shadowed_routes = [it.route for it in shadows(table)]
    rest = RouteTable(route for route in table.routes if route not in shadowed_routes)

    assert [table.find(head) for head in heads] == [rest.find(head) for head in heads]


def test_ten_thousand_routes_of_one_path_are_looked_through_in_no_time() -> None:
    table = table_of(
        *(prefix("/", headers=(header("user", str(number)),)) for number in range(5_000)),
        *(prefix("/", headers=(header(f"x-{number}", "1"),)) for number in range(5_000)),
        *(regex(f"/{number}/.*", headers=(header("user", str(number)),)) for number in range(1_000)),
    )

    found = list(shadows(table))

    assert len(found) == 1_000
