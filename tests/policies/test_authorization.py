"""Denials and their reasons, compared with a slow model of the documentation for arbitrary policies and requests."""

import ipaddress
from dataclasses import dataclass, replace
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.access import (
    Access,
    Condition,
    DestinationPort,
    Header,
    Host,
    Method,
    Namespace,
    Path,
    Principal,
    Seen,
    SourceIp,
)
from policies.attributes import Identity, Peer, RequestHead
from policies.authorization import Action, Authorization, Policy, Rule
from policies.value_match import Hosts, Networks, Paths, Ports, Texts

CLIENT = Peer(Identity("cluster.local", "default", "client"), "10.0.0.1", 1)
EVERYTHING = Rule(0)


def access(path: bytes = b"/", method: bytes = b"GET", peer: Peer = CLIENT, **headers: str) -> Access:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Access(peer, ("10.1.0.1",), 80, RequestHead(method, b"app", path, b"", fields))


def rule(*conditions: Condition, index: int = 0) -> Rule:
    return Rule(index, tuple(((it,),) for it in conditions))


def paths(*texts: str) -> Path:
    return Path(Paths(texts))


def policy(action: Action, *rules: Rule, name: str = "p", **more: object) -> Policy:
    return Policy("default", name, action, rules, **more)  # type: ignore[arg-type]


def test_a_verdict_names_the_first_rule_by_name_that_allowed() -> None:
    later = policy(Action.ALLOW, EVERYTHING, name="z")
    first = policy(Action.ALLOW, rule(paths("/b"), index=0), rule(paths("/a"), index=1), name="a")
    audit = policy(Action.AUDIT, EVERYTHING, name="watch")

    for policies in ((later, first), (later, first, audit)):
        verdict = Authorization(policies).judge(access(b"/a"))

        assert verdict.is_allowed
        assert verdict.rule is not None
        assert (verdict.rule.policy, verdict.rule.index) == (first, 1)
    assert Authorization((audit,)).judge(access(b"/a")).rule is None


def test_what_audit_matches_is_noted_beside_the_verdict() -> None:
    authorization = Authorization((policy(Action.AUDIT, rule(paths("/a*"))),))

    verdict = authorization.judge(access(b"/ab"))

    assert verdict.is_allowed
    assert [it.name for it in verdict.audited] == ["ns[default]-policy[p]-rule[0]"]


def test_what_a_trial_would_have_said_is_noted_for_each_action() -> None:
    deny = policy(Action.DENY, rule(paths("/a")), name="d", is_dry_run=True)
    allow = policy(Action.ALLOW, rule(paths("/b")), name="a", is_dry_run=True)

    verdict = Authorization((deny, allow)).judge(access(b"/a"))

    assert verdict.is_allowed
    assert [str(it) for it in verdict.shadow] == ["allow:denied:none", "deny:denied:ns[default]-policy[d]-rule[0]"]


def test_a_custom_policy_names_whom_to_ask_for_the_requests_it_matches() -> None:
    authorization = Authorization((policy(Action.CUSTOM, rule(paths("/a")), provider="opa"),))

    assert authorization.custom_providers(access(b"/a")) == ("opa",)
    assert authorization.custom_providers(access(b"/b")) == ()
    assert authorization.judge(access(b"/a")).is_allowed


def test_everybody_is_asked_whom_a_matching_custom_policy_names_and_nobody_twice() -> None:
    first = policy(Action.CUSTOM, rule(paths("/a")), rule(paths("/*")), name="a", provider="opa")
    second = policy(Action.CUSTOM, rule(paths("/a")), name="b", provider="login")
    third = policy(Action.CUSTOM, rule(paths("/a")), name="c", provider="opa")

    authorization = Authorization((third, second, first))

    assert authorization.custom_providers(access(b"/a")) == ("opa", "login")
    assert authorization.custom_providers(access(b"/b")) == ("opa",)


def test_the_rules_of_a_provider_that_has_granted_a_request_are_not_matched_again() -> None:
    asked = []

    @dataclass(frozen=True)
    class Noted:
        key: ClassVar[str] = "noted"
        values: str
        is_not: bool = False
        sees: ClassVar[Seen] = Seen.CONNECTION

        def holds(self, access: Access) -> bool:
            asked.append(self.values)
            return True

    its = [policy(Action.CUSTOM, rule(Noted(name)), name=name, provider=name) for name in ("login", "opa")]
    authorization = Authorization(tuple(its))

    assert authorization.custom_providers(access(), granted=("login",)) == ("opa",)
    assert authorization.custom_providers(access(), granted=("login", "opa")) == ()
    assert asked == ["opa"]


def test_whom_an_exempt_policy_allows_needs_no_other() -> None:
    mine = rule(Principal(Texts(("*/sa/client",))))
    authorization = Authorization((policy(Action.ALLOW),), exempt=(policy(Action.ALLOW, mine, name="exempt"),))

    assert authorization.judge(access()).is_allowed
    assert not authorization.judge(access(peer=Peer(None, "10.0.0.1", 1))).is_allowed


def test_an_exempt_policy_alone_makes_nobody_need_it() -> None:
    other = rule(Principal(Texts(("*/sa/other",))))

    assert Authorization((), exempt=(policy(Action.ALLOW, other),)).judge(access()).is_allowed


def test_a_request_under_way_is_denied_whatever_its_headers_were_or_not_at_all() -> None:
    path, header = paths("/a"), Header(b"x-a", Texts(("1",)))

    def goes_on(*policies: Policy) -> bool:
        return Authorization(policies).for_those_under_way().judge(access(b"/a")).is_allowed

    assert not goes_on(policy(Action.DENY, rule(path)))
    assert goes_on(policy(Action.DENY, rule(paths("/b"))))
    assert goes_on(policy(Action.DENY, rule(path, header)))
    assert goes_on(policy(Action.ALLOW, rule(path, header)))
    assert not goes_on(policy(Action.ALLOW, rule(paths("/b"), header)))
    assert not goes_on(policy(Action.ALLOW))
    assert goes_on(policy(Action.DENY, EVERYTHING, is_dry_run=True))


# -- the slow model ------------------------------------------------------------------------------------------------

_TEXTS = st.sampled_from(["*", "a", "a*", "*a", "ab", "*b", "b", "default", "*/sa/a", "cluster.local/ns/a/sa/b", "GET"])
_PATHS = st.sampled_from(["/", "/a", "/a/*", "*/b", "*", "/{*}", "/a/{**}", "/{*}/b", "/a/{*}/{**}"])
_HOSTS = st.sampled_from(["a", "A", "a:80", "*.a", "a.*", "*"])
_NETWORKS = st.sampled_from(["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "::1", "::/0"])


def _lists(texts: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(texts, min_size=1, max_size=3).map(tuple)


_TESTS = st.one_of(
    st.tuples(st.sampled_from(["principal", "namespace", "method", "x-a"]), _lists(_TEXTS), st.booleans()),
    st.tuples(st.just("path"), _lists(_PATHS), st.booleans()),
    st.tuples(st.just("host"), _lists(_HOSTS), st.booleans()),
    st.tuples(st.just("ip"), _lists(_NETWORKS), st.booleans()),
    st.tuples(st.just("port"), _lists(st.sampled_from(["80", "81"])), st.booleans()),
)
_Test = tuple[str, tuple[str, ...], bool]
_RULES = st.lists(st.lists(st.lists(_TESTS, max_size=3), min_size=1, max_size=3), max_size=3)
_POLICIES = st.lists(st.tuples(st.sampled_from(Action), st.lists(_RULES, max_size=3)), max_size=4)
_PEERS = st.builds(
    Peer,
    st.none() | st.builds(Identity, st.just("cluster.local"), st.sampled_from(["a", "default"]), st.sampled_from("ab")),
    st.sampled_from(["10.0.0.1", "10.9.9.9", "127.0.0.1", "::1", "::ffff:10.0.0.1"]),
    st.just(1),
)
_HEADS = st.builds(
    RequestHead,
    st.sampled_from([b"GET", b"POST", b"a"]),
    st.sampled_from([b"a", b"a:80", b"b.a", b"b.a:80", b"a.b"]),
    st.sampled_from([b"/", b"/a", b"/a/", b"/a/b", b"/a//b", b"/b/b", b"*"]),
    st.just(b""),
    st.lists(st.tuples(st.just(b"x-a"), st.sampled_from([b"", b"a", b"ab", b"b"])), max_size=2),
)


def _condition(test: _Test) -> Condition:
    kind, texts, is_not = test
    match kind:
        case "principal":
            return Principal(Texts(texts), is_not)
        case "namespace":
            return Namespace(Texts(texts), is_not)
        case "method":
            return Method(Texts(texts), is_not)
        case "x-a":
            return Header(b"x-a", Texts(texts), is_not)
        case "path":
            return Path(Paths(texts), is_not)
        case "host":
            return Host(Hosts(texts), is_not)
        case "ip":
            return SourceIp(Networks(tuple(map(ipaddress.ip_network, texts))), is_not)
    return DestinationPort(Ports(tuple(map(int, texts))), is_not)


def _model_holds(test: _Test, wish: Access) -> bool:
    kind, texts, is_not = test
    head, identity = wish.request, wish.peer.identity
    values: list[str | None]
    match kind:
        case "principal":
            values = [str(identity).removeprefix("spiffe://") if identity else None]
        case "namespace":
            values = [identity.namespace if identity else None]
        case "method":
            values = [head.method.decode()]
        case "x-a":
            its = [value.decode() for _, value in head.headers]
            values = [",".join(its) if its else None, *(its if is_not else ())]  # none of several may be the wrong one
        case "path":
            return any(_model_path(text, head.path.decode()) for text in texts) != is_not
        case "host":
            values = [head.authority.decode(), head.authority.decode().removesuffix(":80")]
            texts = tuple(text.lower() for text in texts)
        case "ip":
            address = ipaddress.ip_address(wish.peer.ip.removeprefix("::ffff:"))
            return any(address in ipaddress.ip_network(text) for text in texts) != is_not
        case _:
            return (str(wish.port) in texts) != is_not
    return any(value is not None and _model_text(text, value) for text in texts for value in values) != is_not


def _model_text(text: str, value: str) -> bool:
    if text == "*":
        return value != ""
    if text[0] == "*":
        return value[-len(text[1:]) :] == text[1:]
    return value[: len(text) - 1] == text[:-1] if text[-1] == "*" else value == text


def _model_path(text: str, path: str) -> bool:
    if "{" not in text:
        return _model_text(text, path)
    if not path.startswith("/"):
        return False
    wanted, segments = text.split("/")[1:], path.split("/")[1:]
    while wanted and wanted[0] != "{**}":
        if not segments or (segments[0] == "" if wanted[0] == "{*}" else segments[0] != wanted[0]):
            return False
        wanted, segments = wanted[1:], segments[1:]
    return bool(segments) if wanted else not segments


def _model(policies: list[tuple[Action, list[list[list[list[_Test]]]]]], wish: Access) -> bool:
    def matches(groups: list[list[list[_Test]]]) -> bool:
        return all(any(all(_model_holds(it, wish) for it in every) for every in group) for group in groups)

    matching = [(action, [groups for groups in rules if matches(groups)]) for action, rules in policies]
    if any(rules for action, rules in matching if action is Action.DENY):
        return False
    allowing = [rules for action, rules in matching if action is Action.ALLOW]
    return not allowing or any(allowing)


@settings(max_examples=500)
@given(_POLICIES, _PEERS, _HEADS)
def test_any_policies_say_of_any_request_what_the_model_says(
    policies: list[tuple[Action, list[list[list[list[_Test]]]]]], peer: Peer, head: RequestHead
) -> None:
    compiled = [
        Policy("default", f"p{number}", action, tuple(_rule(index, groups) for index, groups in enumerate(rules)))
        for number, (action, rules) in enumerate(policies)
    ]
    wish = Access(peer, ("10.1.0.1",), 80, head)

    verdict = Authorization(tuple(compiled)).judge(wish)

    assert verdict.is_allowed == _model(policies, wish)


@settings(max_examples=500)
@given(_POLICIES, _PEERS, _HEADS, st.sets(st.integers(0, 3)))
def test_what_a_connection_leaves_open_gives_the_same_verdicts(
    policies: list[tuple[Action, list[list[list[list[_Test]]]]]], peer: Peer, head: RequestHead, dry_run: set[int]
) -> None:
    compiled = [
        Policy("default", f"p{number}", action, rules, is_dry_run=number in dry_run, provider=f"provider-{number}")
        for number, (action, groups) in enumerate(policies)
        for rules in [tuple(_rule(index, it) for index, it in enumerate(groups))]
    ]
    rules, wish = Authorization(tuple(compiled)).rules, Access(peer, ("10.1.0.1",), 80, head)

    left = rules.left_by(Access(peer, ("10.1.0.1",), 80))

    assert left.judge(wish) == rules.judge(wish)
    assert left.custom_providers(wish) == rules.custom_providers(wish)


@settings(max_examples=300)
@given(_POLICIES, _PEERS, _HEADS)
def test_less_is_allowed_for_bytes_and_no_request_under_way_ends_that_may_go_on(
    policies: list[tuple[Action, list[list[list[list[_Test]]]]]], peer: Peer, head: RequestHead
) -> None:
    compiled = [
        Policy("default", f"p{number}", action, tuple(_rule(index, groups) for index, groups in enumerate(rules)))
        for number, (action, rules) in enumerate(policies)
    ]
    authorization = Authorization(tuple(compiled))
    request, bytes_ = Access(peer, ("10.1.0.1",), 80, head), Access(peer, ("10.1.0.1",), 80)

    is_allowed = authorization.judge(request).is_allowed

    assert is_allowed or not authorization.for_bytes().judge(bytes_).is_allowed
    late = Access(peer, ("10.1.0.1",), 80, replace(head, headers=[]))
    assert authorization.for_those_under_way().judge(late).is_allowed or not is_allowed


def _rule(index: int, groups: list[list[list[_Test]]]) -> Rule:
    return Rule(index, tuple(tuple(tuple(map(_condition, every)) for every in group) for group in groups))
