from typing import Any

import pytest

from policies.claims import Claims


@pytest.mark.parametrize(
    ("values", "principal"),
    [
        ({"iss": "https://issuer.example", "sub": "me"}, "https://issuer.example/me"),
        ({"iss": "issuer"}, ""),
        ({"sub": "me"}, ""),
        ({"iss": "issuer", "sub": 7}, ""),
        ({"iss": ["issuer"], "sub": "me"}, ""),
    ],
)
def test_a_principal_needs_an_issuer_and_a_subject_that_are_texts(values: dict[str, Any], principal: str) -> None:
    assert Claims(values).principal == principal
