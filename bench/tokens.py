"""A token and the key that verifies it: RS256, as most issuers sign."""

from tests.kit.issuer import SigningKey, jwks

ISSUER = "https://issuer.example.com"
_END = 4_102_444_800
"""2100-01-01: no measurement outlasts it."""


def issue() -> tuple[str, str]:
    """Return a token, and the set of keys that verifies it, as JSON."""
    key = SigningKey.generate("RS256")
    return key.sign({"iss": ISSUER, "sub": "client", "exp": _END}), jwks(key)
