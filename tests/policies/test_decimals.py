"""Numbers as bytes, also those that are not kept."""

import pytest

from policies.decimals import decimal


@pytest.mark.parametrize("number", [-1, 0, 7, 999, 1000, 2**64])
def test_numbers_are_decimal(number: int) -> None:
    assert decimal(number) == str(number).encode()
