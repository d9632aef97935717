"""JSON Web Key Sets (RFC 7517) and signature verification (RFC 7518, RFC 8037).

A key is used only with the algorithms of its own family: a token cannot make a public RSA key act as an HMAC secret,
nor use a key of one curve for another. `none` is not an algorithm. PyJWT parses keys and verifies signatures; it never
sees a token and never fetches anything. Importing this module costs a few megabytes, so import it only where keys are
read.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

from policies.jwt import ALGORITHMS, Failure, Token

MAX_KEYS = 100
MIN_RSA_BITS = 2048  # RFC 7518 sections 3.3 and 3.5
_PUBLIC = ("kty", "crv", "x", "y", "n", "e", "k")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA", "Ed448": "EdDSA"}
_FAMILIES = {
    "RSA": frozenset(name for name in ALGORITHMS if name[:2] in {"RS", "PS"}),
    "oct": frozenset(name for name in ALGORITHMS if name[:2] == "HS"),
}
_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})  # RFC 7518 sections 6.2.2 and 6.3.2, RFC 8037
_CHECKS: dict[str, Algorithm] = {name: it for name, it in get_default_algorithms().items() if name in ALGORITHMS}


class InvalidKeys(ValueError):
    """No token can be verified with these keys. The message says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key or shared secret. `algorithm` is empty if the key allows all of `algorithms`."""

    kid: str
    algorithm: str
    algorithms: frozenset[str]
    value: Any = field(repr=False)

    @classmethod
    def parse(cls, jwk: Any) -> "Key":
        """Parse a JWK. Raises InvalidKeys."""
        if not isinstance(jwk, dict):
            raise InvalidKeys("a key is not a JSON object")
        kid, algorithm, kind = jwk.get("kid", ""), jwk.get("alg", ""), str(jwk.get("kty"))
        if not isinstance(kid, str) or not isinstance(algorithm, str):
            raise InvalidKeys("kid or alg of a key is not a string")
        curve = _CURVES.get(str(jwk.get("crv")))
        algorithms = frozenset({curve}) if kind in {"EC", "OKP"} and curve else _FAMILIES.get(kind, frozenset())
        if not algorithms or (algorithm and algorithm not in algorithms) or jwk.get("use", "sig") != "sig":
            raise InvalidKeys(f"key {kid!r} is not a signature key for a supported algorithm")
        try:
            value = _CHECKS[min(algorithms)].from_jwk({name: jwk[name] for name in _PUBLIC if name in jwk})
        except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidKeys(f"key {kid!r} is invalid: {error}") from None
        if isinstance(value, RSAPublicKey) and value.key_size < MIN_RSA_BITS:
            raise InvalidKeys(f"key {kid!r} has {value.key_size} bits; RSA needs {MIN_RSA_BITS}")
        return cls(kid, algorithm, algorithms, value)

    def is_meant_by(self, token: Token) -> bool:
        has_kid = not token.kid or not self.kid or token.kid == self.kid
        return has_kid and (not self.algorithm or self.algorithm == token.algorithm)

    def has_signed(self, token: Token) -> bool:
        if token.algorithm not in self.algorithms:
            return False
        return _CHECKS[token.algorithm].verify(token.signed, self.value, token.signature)


class KeySet:
    """Compared by identity: a token verified by one set is not verified by another."""

    __slots__ = ("keys",)

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys

    @classmethod
    def parse(cls, text: bytes) -> "KeySet":
        """Parse a JWK Set. Keys for other uses or unknown algorithms are skipped. Raises InvalidKeys."""
        try:
            content = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidKeys(f"it is not JSON: {error}") from None
        jwks = content.get("keys") if isinstance(content, dict) else None
        if not isinstance(jwks, list):
            raise InvalidKeys("it has no list of keys")
        keys, reason = [], "it has no keys"
        for jwk in jwks[:MAX_KEYS]:
            try:
                keys.append(Key.parse(jwk))
            except InvalidKeys as error:
                reason = str(error)
        if not keys:
            raise InvalidKeys(reason)
        return cls(tuple(keys))

    @staticmethod
    def holds_private_key(text: bytes) -> bool:
        """Whether the text of a valid key set contains a private key, with which a reader could sign tokens."""
        return any(not _SECRET.isdisjoint(jwk) for jwk in msgspec.json.decode(text)["keys"] if isinstance(jwk, dict))

    def verify(self, token: Token) -> Failure | None:
        """Return None if one of the keys signed the token, else the failure."""
        meant = [key for key in self.keys if key.is_meant_by(token)]
        if not meant:
            return Failure.UNKNOWN_KEY
        return None if any(key.has_signed(token) for key in meant) else Failure.WRONG_SIGNATURE
