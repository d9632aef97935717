"""The cache of tokens: only those with a valid signature, by which keys, and a bounded number."""

from l4.discovery.registry import Registry
from l4.discovery.workload import AppProtocol
from l4.net.tasks import Tasks
from policies.attributes import RequestHead
from policies.claims import Claims
from policies.jwks import KeySet
from policies.jwt import Authentication, Failure, InlineKeys, JwtRule, Token
from policies.opaque import OpaqueTable
from policies.route import RouteTable
from tests.kit.issuer import ISSUER, SigningKey, jwks
from waypoint.authentication.settings import TokenSettings
from waypoint.authentication.tokens import Refusal, Tokens, Verified
from waypoint.config.snapshot import UNKNOWN_SERVICE, Destination, Snapshot

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
NOW = 1_700_000_000.0


def authentication(key: SigningKey) -> Authentication:
    text = jwks(key).encode()
    return Authentication((JwtRule(ISSUER, InlineKeys(str(hash(text)), text)),))


def tokens(*wanted: Authentication, settings: TokenSettings | None = None) -> Tokens:
    it = Tokens(settings or TokenSettings(), Tasks().keep)
    want(it, *wanted)
    return it


def want(it: Tokens, *wanted: Authentication) -> None:
    destinations = {
        (str(number), 80): Destination(
            UNKNOWN_SERVICE, 80, AppProtocol.HTTP, RouteTable([]), OpaqueTable([]), authentication=each
        )
        for number, each in enumerate(wanted)
    }
    it.reconcile(Snapshot("", Registry(), destinations))


def ask(it: Tokens, by: Authentication, text: str, now: float = NOW) -> Claims | Refusal | None:
    head = RequestHead(b"GET", b"app", b"/", b"", [(b"authorization", f"Bearer {text}".encode())])
    return it.authenticate(by, head, now)


def test_a_known_token_expires_all_the_same() -> None:
    policy = authentication(KEY)
    it, text = tokens(policy), KEY.sign({"iss": ISSUER, "exp": NOW})

    assert isinstance(ask(it, policy, text), Claims)
    assert ask(it, policy, text, NOW + 61) == Refusal(Failure.EXPIRED, None)


def test_a_token_that_one_set_of_keys_has_verified_is_unknown_to_another() -> None:
    first, second = authentication(KEY), authentication(OTHER)
    it, text = tokens(first, second), KEY.sign({"iss": ISSUER})

    assert isinstance(ask(it, first, text), Claims)
    assert ask(it, second, text) == Refusal(Failure.WRONG_SIGNATURE, None)
    assert isinstance(ask(it, first, text), Claims)


def test_keys_that_are_no_longer_configured_verify_nothing() -> None:
    policy = authentication(KEY)
    it, text = tokens(policy), KEY.sign({"iss": ISSUER})
    assert isinstance(ask(it, policy, text), Claims)

    want(it, authentication(OTHER))

    assert ask(it, policy, text) == Refusal(Failure.KEYS_NOT_FETCHED, None)


def test_a_forged_token_is_not_remembered_as_a_good_one() -> None:
    policy = authentication(KEY)
    it, forged = tokens(policy), OTHER.sign({"iss": ISSUER})

    assert [ask(it, policy, forged) for _ in range(2)] == [Refusal(Failure.WRONG_SIGNATURE, None)] * 2


def test_no_more_tokens_are_remembered_than_the_bounds_allow() -> None:
    keys = KeySet.parse(jwks(KEY).encode())
    few = [Token.parse(KEY.sign({"iss": ISSUER, "sub": str(number)}).encode()) for number in range(5)]
    by_count, by_bytes = Verified(3, 1 << 20), Verified(100, 3 * few[0].size)

    for memory in (by_count, by_bytes):
        for number, token in enumerate(few):
            memory.add(bytes([number]), token, keys)
            memory.find(b"\0")

        assert [memory.find(bytes([number])) is not None for number in range(5)] == [True, False, False, True, True]


def test_a_token_remembered_again_counts_once() -> None:
    keys = KeySet.parse(jwks(KEY).encode())
    token = Token.parse(KEY.sign({"iss": ISSUER}).encode())
    memory = Verified(100, 2 * token.size)

    for _ in range(5):
        memory.add(b"a", token, keys)
    memory.add(b"b", token, keys)

    assert memory.is_by(b"a", keys)
    assert memory.is_by(b"b", keys)


def test_settings_bound_the_memory() -> None:
    policy = authentication(KEY)
    it = tokens(policy, settings=TokenSettings(jwt_cache_tokens=0))

    assert isinstance(ask(it, policy, KEY.sign({"iss": ISSUER})), Claims)
