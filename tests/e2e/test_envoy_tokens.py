"""Tokens of every kind, judged by the real Envoy and by us: the same statuses, the same words."""

import http.client
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from policies.attributes import RequestHead
from policies.jwks import KeySet
from policies.jwt import Authentication, Failure, InlineKeys, JwtRule, RemoteKeys, Token, challenge
from tests.kit import envoy
from tests.kit.issuer import ISSUER, SigningKey, base64url, jwks

pytestmark = pytest.mark.envoy

KEYS = {name: SigningKey.generate(name, name) for name in ("RS256", "PS384", "ES256", "ES512", "EdDSA", "HS256")}
KEY, FOREIGN = KEYS["ES256"], SigningKey.generate(kid="ES256")
CLAIMS = {"iss": ISSUER, "aud": "books"}
HEAD, PAYLOAD, SIGNATURE = KEY.sign(CLAIMS).split(".")


def signed(**claims: Any) -> str:
    return KEY.sign({**CLAIMS, **claims})


TOKENS: dict[str, str | Callable[[int], str]] = {
    **{f"good {name}": key.sign(CLAIMS) for name, key in KEYS.items()},
    "no id": KEY.sign(CLAIMS, kid=None),
    "an unknown id": KEY.sign(CLAIMS, kid="x"),
    "an id that is a number": KEY.sign(CLAIMS, kid=1),
    "no algorithm": KEY.sign(CLAIMS, alg=None),
    "none as algorithm": KEY.sign(CLAIMS, alg="none"),
    "an algorithm nobody knows": KEY.sign(CLAIMS, alg="ES1"),
    "an algorithm of another family": KEY.sign(CLAIMS, alg="HS256"),
    "forged": FOREIGN.sign(CLAIMS),
    "no token": "nonsense",
    "two parts": f"{HEAD}.{PAYLOAD}",
    "four parts": f"{HEAD}.{PAYLOAD}.{SIGNATURE}.x",
    "an empty signature": f"{HEAD}.{PAYLOAD}.",
    "a header that is no base64url": f"A.{PAYLOAD}.{SIGNATURE}",
    "a header that is no JSON": f"bm9uZQ.{PAYLOAD}.{SIGNATURE}",
    "a payload that is no JSON": f"{HEAD}.bm9uZQ.{SIGNATURE}",
    "a payload that is a list": f"{HEAD}.{base64url(b'[]').decode()}.{SIGNATURE}",
    "a signature that is no base64url": f"{HEAD}.{PAYLOAD}.A",
    "another issuer": signed(iss="https://other"),
    "an issuer that is a number": signed(iss=1),
    "a subject that is a number": signed(sub=1),
    "expired": lambda now: signed(exp=now - 600),
    "expired within the skew": lambda now: signed(exp=now - 20),
    "expires at no number": signed(exp="x"),
    "expires before all time": signed(exp=-1),
    "not yet": lambda now: signed(nbf=now + 600),
    "not yet, within the skew": lambda now: signed(nbf=now + 20),
    "not before no number": signed(nbf="x"),
    "issued at no number": signed(iat="x"),
    "an id of the token that is a number": signed(jti=1),
    "for others": signed(aud=["shop", "toys"]),
    "for us among others": signed(aud=["shop", "https://books/"]),
    "for a number": signed(aud=1),
    "for nobody": KEY.sign({"iss": ISSUER}),
    "for others, and forged": FOREIGN.sign({"iss": ISSUER, "aud": "shop"}),
    "expired, and for others": signed(exp=1, aud="shop"),
    "of another issuer, and expired": signed(iss="https://other", exp=1),
}

STRICTER = {"an algorithm of another family": (401, Failure.WRONG_SIGNATURE.value)}
"""Envoy checks a signature by the kind of the key, whatever algorithm the token names; we want both to fit."""


class Keys:
    def __init__(self) -> None:
        self._keys = KeySet.parse(jwks(*KEYS.values()).encode())

    def token(self, raw: bytes) -> Token:
        return Token.parse(raw)

    def verify(self, token: Token, keys: InlineKeys | RemoteKeys | None) -> Failure | None:
        return self._keys.verify(token)


@pytest.fixture(scope="module")
def peer() -> Iterator[envoy.Address]:
    listen = envoy.free_address()
    config = envoy.tokens(listen=listen, issuer=ISSUER, jwks=jwks(*KEYS.values()), audiences=["books"])
    with envoy.run(config, ready=listen):
        yield listen


@pytest.mark.parametrize("name", TOKENS)
def test_envoy_and_we_say_the_same_of_a_token(peer: envoy.Address, name: str) -> None:
    now, token = int(time.time()), TOKENS[name]
    value = f"Bearer {token if isinstance(token, str) else token(now)}"
    connection = http.client.HTTPConnection(*peer, timeout=10)
    connection.request("GET", "/a/b", headers={"authorization": value, "host": "app"})
    answer = connection.getresponse()
    theirs = answer.status, answer.read().decode(), answer.headers.get("www-authenticate")
    connection.close()

    head = RequestHead(b"GET", b"app", b"/a/b", b"", [(b"authorization", value.encode())])
    found = Authentication((JwtRule(ISSUER, None, ("books",)),)).authenticate(head, now, Keys())

    if name in STRICTER:
        assert isinstance(found, Failure)
        assert theirs[0] == 200
        assert STRICTER[name] == (found.status, found.value)
        return
    is_refused = isinstance(found, Failure)
    ours = (found.status, found.value, challenge(head).decode()) if is_refused else (200, "passed", None)
    assert ours == theirs
