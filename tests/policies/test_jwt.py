"""Tokens, from every algorithm that is known to those that must never be accepted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.attributes import RequestHead
from policies.claims import Claims
from policies.jwks import KeySet
from policies.jwt import (
    MAX_TOKEN_BYTES,
    Authentication,
    Failure,
    InlineKeys,
    InvalidToken,
    JwtRule,
    RemoteKeys,
    Token,
    challenge,
)
from policies.token_locations import CookieLocation, HeaderLocation, ParamLocation
from tests.kit.issuer import SigningKey, base64url, jwks

ISSUER = "https://issuer.example.com"
NOW = 1_700_000_000.0
KEY = SigningKey.generate()
RULE = JwtRule(ISSUER, InlineKeys("", b""))
NAMES = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
ALGORITHMS = [*NAMES, "EdDSA", "EdDSA-448", "HS256", "HS384", "HS512"]


class Verified:
    """By a set of keys, without any memory."""

    def __init__(self, *keys: SigningKey) -> None:
        self._keys = KeySet.parse(jwks(*keys).encode())

    def token(self, raw: bytes) -> Token:
        return Token.parse(raw)

    def verify(self, token: Token, keys: InlineKeys | RemoteKeys | None) -> Failure | None:
        return self._keys.verify(token)


def request(*headers: tuple[bytes, bytes], query: bytes = b"", method: bytes = b"GET") -> RequestHead:
    return RequestHead(method, b"app", b"/", query, list(headers), bool(query))


def bearing(text: str | bytes) -> RequestHead:
    raw = text if isinstance(text, bytes) else text.encode()
    return request((b"authorization", b"Bearer " + raw))


def judge(text: str, rule: JwtRule = RULE, *keys: SigningKey) -> Claims | Failure | None:
    return Authentication((rule,)).authenticate(bearing(text), NOW, Verified(*(keys or (KEY,))))


def failure_of(raw: str | bytes) -> Failure:
    with pytest.raises(InvalidToken) as caught:
        Token.parse(raw if isinstance(raw, bytes) else raw.encode())
    return caught.value.failure


# -- algorithms and keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_checked(algorithm: str) -> None:
    key = SigningKey.generate(algorithm)
    text = key.sign({"iss": ISSUER, "sub": "alice"})
    head, payload, signature = text.split(".")
    changed = json.dumps({"iss": ISSUER, "sub": "mallory"}).encode()

    good = judge(text, RULE, key)

    assert isinstance(good, Claims)
    assert good.principal == f"{ISSUER}/alice"
    assert judge(f"{head}.{base64url(changed).decode()}.{signature}", RULE, key) is Failure.WRONG_SIGNATURE
    assert judge(f"{head}.{payload}.{signature[:-8]}", RULE, key) is Failure.WRONG_SIGNATURE


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "RS1", "ES256K", "HS1", "dir"])
def test_an_algorithm_that_is_not_on_the_list_is_refused(algorithm: str) -> None:
    assert judge(KEY.sign({"iss": ISSUER}, alg=algorithm)) is Failure.UNKNOWN_ALGORITHM


@pytest.mark.parametrize("claimed", ["HS256", "PS256", "RS512", "ES384", "EdDSA"])
@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_key_is_never_used_with_another_algorithm_than_its_own(algorithm: str, claimed: str) -> None:
    key = SigningKey.generate(algorithm)
    if claimed == algorithm:
        return

    assert judge(key.sign({"iss": ISSUER}, alg=claimed), RULE, key) is Failure.WRONG_SIGNATURE


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    public = SigningKey.generate("RS256")
    for secret in (json.dumps(public.jwk).encode(), public.jwk["n"].encode()):
        forger = SigningKey("key", "HS256", secret, {})
        assert judge(forger.sign({"iss": ISSUER}), RULE, public) is Failure.WRONG_SIGNATURE


def test_the_key_is_found_by_its_id_and_algorithm_and_without_an_id_all_are_tried() -> None:
    first, second = SigningKey.generate(kid="1"), SigningKey.generate(kid="2")
    claims = {"iss": ISSUER}

    assert isinstance(judge(second.sign(claims), RULE, first, second), Claims)
    assert isinstance(judge(second.sign(claims, kid=None), RULE, first, second), Claims)
    assert judge(second.sign(claims, kid="1"), RULE, first, second) is Failure.WRONG_SIGNATURE
    assert judge(second.sign(claims, kid="3"), RULE, first, second) is Failure.UNKNOWN_KEY
    first.jwk["alg"] = second.jwk["alg"] = "ES256"
    assert judge(second.sign(claims, kid=None, alg="ES512"), RULE, first, second) is Failure.UNKNOWN_KEY


def test_where_a_token_says_its_key_is_nobody_looks() -> None:
    forger = SigningKey.generate()

    forged = forger.sign({"iss": ISSUER}, jwk=forger.jwk, jku="https://evil.example", x5u="https://evil.example")

    assert judge(forged) is Failure.WRONG_SIGNATURE


def test_what_must_be_understood_and_is_not_is_refused() -> None:
    assert judge(KEY.sign({"iss": ISSUER}, crit=["exp"])) is Failure.UNKNOWN_ALGORITHM


# -- form ----------------------------------------------------------------------------------------------------------


MALFORMED: list[tuple[dict[str, Any], Failure]] = [
    ({"iss": 1}, Failure.BAD_ISS),
    ({"sub": []}, Failure.BAD_SUB),
    ({"jti": 1}, Failure.BAD_JTI),
    ({"exp": "tomorrow"}, Failure.BAD_EXP),
    ({"exp": True}, Failure.BAD_EXP),
    ({"exp": -1}, Failure.NEGATIVE_EXP),
    ({"nbf": None}, Failure.BAD_NBF),
    ({"nbf": 1 << 65}, Failure.NEGATIVE_NBF),
    ({"iat": {}}, Failure.BAD_IAT),
    ({"iat": -0.5}, Failure.NEGATIVE_IAT),
    ({"aud": 5}, Failure.BAD_AUD),
    ({"aud": ["a", 5]}, Failure.BAD_AUD),
]


@pytest.mark.parametrize(("claims", "failure"), MALFORMED)
def test_claims_of_wrong_types_are_refused(claims: dict[str, Any], failure: Failure) -> None:
    assert failure_of(KEY.sign(claims)) is failure


def test_each_part_has_its_form() -> None:
    head, payload, signature = KEY.sign({}).split(".")

    assert failure_of("") is failure_of("a.b") is failure_of("a.b.c.d") is failure_of("..") is Failure.BAD_FORM
    assert failure_of(f"{head}.{payload}.{'A' * MAX_TOKEN_BYTES}") is Failure.BAD_FORM
    assert failure_of(f"{head}=.{payload}.{signature}") is Failure.HEADER_NOT_BASE64
    assert failure_of(f"bm9uZQ.{payload}.{signature}") is Failure.HEADER_NOT_JSON
    assert failure_of(f"e30.{payload}.{signature}") is Failure.NO_ALGORITHM
    assert failure_of(KEY.sign({}, kid=5)) is Failure.BAD_KID
    assert failure_of(f"{head}.{payload}+.{signature}") is Failure.PAYLOAD_NOT_BASE64
    assert failure_of(KEY.sign([])) is Failure.PAYLOAD_NOT_JSON
    assert failure_of(f"{head}.{payload}.{signature}/") is Failure.SIGNATURE_NOT_BASE64


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(raw: bytes) -> None:
    found = Authentication((RULE,)).authenticate(bearing(raw), NOW, Verified(KEY))

    assert found is None or isinstance(found, Failure)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab é", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=5), inner, max_size=3),
    max_leaves=5,
)
_REGISTERED = st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "group"])


@given(st.dictionaries(_REGISTERED, _JSON | st.just(ISSUER) | st.integers(0, 1 << 33)), st.booleans())
def test_whatever_a_signed_token_says_it_is_judged(claims: dict[str, Any], is_ours: bool) -> None:
    rule = JwtRule(ISSUER, None, claim_headers=((b"x-group", ("group",)), (b"x-sub", ("sub", "deep"))))

    found = judge(KEY.sign({**claims, **({"iss": ISSUER} if is_ours else {})}), rule)

    assert isinstance(found, Claims | Failure)


def test_json_that_is_too_deep_is_refused() -> None:
    head = KEY.sign({}).partition(".")[0]

    assert failure_of(f"{head}.{base64url(b'[' * 5000).decode()}.AAAA") is Failure.PAYLOAD_NOT_JSON


# -- time and audience ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "failure"),
    [
        ({"exp": NOW - 60}, None),
        ({"exp": NOW - 61}, Failure.EXPIRED),
        ({"exp": 0}, Failure.EXPIRED),
        ({"nbf": NOW + 60}, None),
        ({"nbf": NOW + 61}, Failure.NOT_YET_VALID),
        ({"nbf": NOW + 61, "exp": 0}, Failure.NOT_YET_VALID),
    ],
)
def test_clocks_may_be_a_minute_apart(claims: dict[str, Any], failure: Failure | None) -> None:
    found = judge(KEY.sign({"iss": ISSUER, **claims}))

    assert (found if isinstance(found, Failure) else None) is failure


@pytest.mark.parametrize(
    ("audience", "is_allowed"),
    [
        ("books", True),
        (["shop", "books"], True),
        ("https://books/", True),
        ("http://books", True),
        ("shop", False),
        ([], False),
        ("books/more", False),
    ],
)
def test_one_of_the_audiences_must_be_ours(audience: object, is_allowed: bool) -> None:
    rule = JwtRule(ISSUER, None, audiences=("books",))

    found = judge(KEY.sign({"iss": ISSUER, "aud": audience}), rule)

    assert isinstance(found, Claims) if is_allowed else found is Failure.WRONG_AUDIENCE
    assert judge(KEY.sign({"iss": ISSUER}), rule) is Failure.WRONG_AUDIENCE


def test_only_the_wrong_audience_is_forbidden_the_rest_is_unauthorized() -> None:
    assert {failure for failure in Failure if failure.status == 403} == {Failure.WRONG_AUDIENCE}


# -- what becomes of the request -----------------------------------------------------------------------------------


def test_words_between_blanks_become_lists() -> None:
    claims = {"iss": ISSUER, "scope": "read write", "permission": ["a b"], "roles": "x  y", "name": "a b"}
    rule = JwtRule(ISSUER, None, space_delimited=("scope", "permission", "roles"))

    found = judge(KEY.sign(claims), rule)

    assert isinstance(found, Claims)
    assert found.values == {**claims, "scope": ["read", "write"], "roles": ["x", "y"]}


def test_claims_that_no_header_can_hold_are_left_out() -> None:
    names = ("text", "number", "truth", "break", "list", "missing", "deep")
    rule = JwtRule(ISSUER, None, claim_headers=tuple((f"x-{name}".encode(), name) for name in names))
    claims = {"text": " grüße ", "number": 5, "truth": True, "break": "a\r\nx: y", "list": [1], "deep": {"a": 1}}
    head = bearing(KEY.sign({"iss": ISSUER, **claims}))

    Authentication((rule,)).authenticate(head, NOW, Verified(KEY))

    assert head.headers == [(b"x-text", "grüße".encode()), (b"x-number", b"5"), (b"x-truth", b"true")]


@pytest.mark.parametrize(
    ("claim", "told"),
    [("https://example.com/team", b"a"), ("realm.group", b"b"), ("realm.sub.team", b"c"), ("realm.none", None)],
)
def test_a_claim_with_dots_in_its_name_is_told_and_so_is_one_inside_of_another(claim: str, told: bytes | None) -> None:
    rule = JwtRule(ISSUER, None, claim_headers=((b"x-claim", claim),))
    claims = {"https://example.com/team": "a", "realm": {"group": "b", "sub.team": "c"}}
    head = bearing(KEY.sign({"iss": ISSUER, **claims}))

    Authentication((rule,)).authenticate(head, NOW, Verified(KEY))

    assert head.headers == ([(b"x-claim", told)] if told is not None else [])


def test_of_two_tokens_the_good_one_counts_and_of_two_bad_ones_the_one_that_is_meant_for_us() -> None:
    rule = JwtRule(ISSUER, None)
    both = Authentication((rule,))
    good, foreign, old = (KEY.sign(it) for it in ({"iss": ISSUER}, {"iss": "x"}, {"iss": ISSUER, "exp": 1}))

    def ask(header: str, param: str) -> Claims | Failure | None:
        head = request((b"authorization", f"Bearer {header}".encode()), query=f"access_token={param}".encode())
        return both.authenticate(head, NOW, Verified(KEY))

    assert isinstance(ask(foreign, good), Claims)
    assert ask(foreign, old) is ask(old, foreign) is Failure.EXPIRED
    assert ask(foreign, foreign) is Failure.UNKNOWN_ISSUER


def test_a_rule_that_is_required_wants_a_token_of_its_own_issuer() -> None:
    rules = (JwtRule(ISSUER, InlineKeys("", b""), is_required=True), JwtRule("other", InlineKeys("", b"")))
    both = Authentication(rules)

    assert both.authenticate(request(), NOW, Verified(KEY)) is Failure.MISSING
    assert both.authenticate(bearing(KEY.sign({"iss": "other"})), NOW, Verified(KEY)) is Failure.UNKNOWN_ISSUER
    assert isinstance(both.authenticate(bearing(KEY.sign({"iss": ISSUER})), NOW, Verified(KEY)), Claims)
    assert Failure.MISSING.status == 401


def test_a_challenge_names_the_request_without_its_query_and_stays_one_string() -> None:
    head = RequestHead(
        b"GET", b"app:80", b'/a"b\\c' + b"d" * 300, b"access_token=x", [(b"x-forwarded-proto", b"https")]
    )

    realm = challenge(head).split(b'"')

    assert realm[0::2] == [b"Bearer realm=", b", error=", b""]
    assert realm[1].startswith(b"https://app:80/a%22b%5Cc")
    assert b"access_token" not in realm[1]


# -- places --------------------------------------------------------------------------------------------------------


def test_a_headers_token_is_the_first_run_of_its_characters_after_the_prefix() -> None:
    place = HeaderLocation(b"authorization", b"Bearer ")

    def find(value: bytes) -> bytes | None:
        return place.find(request((b"authorization", value)))

    assert find(b"Bearer a.b.c") == find(b"Bearer   a.b.c") == find(b"Basic x, Bearer a.b.c,more") == b"a.b.c"
    assert find(b"Basic x") is find(b"bearer a.b.c") is find(b"") is None
    assert find(b"Bearer ") == b"Bearer "


def test_of_repeated_headers_the_one_with_the_prefix_counts_and_all_are_removed() -> None:
    head = request((b"authorization", b"Basic x"), (b"authorization", b"Bearer a.b.c"), (b"x", b"y"))
    place = HeaderLocation(b"authorization", b"Bearer ")

    assert place.find(head) == b"a.b.c"
    place.remove(head)
    assert head.headers == [(b"x", b"y")]


def test_a_parameter_is_found_however_its_name_is_written() -> None:
    head = request(query=b"a=1&me%2Dtoo=x%2Ey&b&me-too=z")
    place = ParamLocation(b"me-too")

    assert place.find(head) == b"x.y"
    assert place.concealed(head.query) == b"a=1&me-too=(redacted)&b&me-too=(redacted)"
    place.remove(head)
    assert (head.query, head.has_query) == (b"a=1&b", True)


def test_without_its_only_parameter_a_request_has_no_query() -> None:
    head = request(query=b"t=x")

    ParamLocation(b"t").remove(head)

    assert head.target == b"/"


def test_a_cookie_is_found_in_any_of_the_cookie_headers() -> None:
    head = request((b"cookie", b"a=b"), (b"cookie", b'sid="x.y.z"; c=d'), (b"cookie", b"sid=2"))
    place = CookieLocation(b"sid")

    assert place.find(head) == b"x.y.z"
    place.remove(head)
    assert head.headers == [(b"cookie", b"a=b"), (b"cookie", b"c=d")]
