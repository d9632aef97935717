"""Sets of keys as issuers publish them: usable keys are used, and unusable ones do no harm."""

import json
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from policies.jwks import MAX_KEYS, InvalidKeys, KeySet
from tests.kit.issuer import SigningKey, jwks

EC, RSA, OCT = (SigningKey.generate(algorithm).jwk for algorithm in ("ES256", "RS256", "HS256"))
_SMALL = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)

UNUSABLE: dict[str, Any] = {
    "a key for encryption": {**RSA, "use": "enc"},
    "an algorithm of another family": {**EC, "alg": "HS256"},
    "a curve that tokens don't have": {**EC, "crv": "secp256k1"},
    "a point that is not on its curve": {**EC, "y": EC["x"]},
    "an RSA key that is too short": _SMALL,
    "a secret that is empty": {**OCT, "k": ""},
    "no type": {name: value for name, value in RSA.items() if name != "kty"},
    "a modulus that is no text": {**RSA, "n": 5},
    "an id that is no text": {**RSA, "kid": 5},
    "a string": "key",
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_key_that_cannot_be_used_is_passed_over(case: str) -> None:
    keys = KeySet.parse(json.dumps({"keys": [UNUSABLE[case], {**EC, "kid": "good"}]}).encode())

    assert [key.kid for key in keys.keys] == ["good"]
    with pytest.raises(InvalidKeys):
        KeySet.parse(json.dumps({"keys": [UNUSABLE[case]]}).encode())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"keys": {}}', '{"keys": []}', "[" * 5000])
def test_what_is_no_set_of_keys_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InvalidKeys, match=r"\w+ \w+"):
        KeySet.parse(text.encode())


def test_the_public_part_of_a_private_key_is_all_that_is_read() -> None:
    key = SigningKey.generate("RS256")
    private = {**RSAAlgorithm.to_jwk(key.private, as_dict=True), "kid": "key"}
    private.pop("key_ops", None)

    [read] = KeySet.parse(json.dumps({"keys": [private]}).encode()).keys

    assert isinstance(read.value, rsa.RSAPublicKey)


def test_no_more_keys_than_the_bound_are_read() -> None:
    keys = KeySet.parse(json.dumps({"keys": [OCT] * (MAX_KEYS + 5)}).encode())

    assert len(keys.keys) == MAX_KEYS


def test_a_secret_is_not_shown() -> None:
    [key] = KeySet.parse(jwks(SigningKey.generate("HS256")).encode()).keys

    assert "0123456789" not in repr(key)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda it: (
            st.lists(it)
            | st.dictionaries(
                st.sampled_from(["keys", "kty", "kid", "alg", "n", "e", "x", "y", "crv", "k"]),
                it | st.sampled_from(["RSA", "EC"]),
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_crashes_it(value: Any) -> None:
    for content in (value, {"keys": [value]}):
        with suppress(InvalidKeys):
            KeySet.parse(json.dumps(content).encode())
