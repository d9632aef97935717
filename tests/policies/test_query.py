import pytest

from policies.query import parse_query


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (b"a=1&b=2", {b"a": b"1", b"b": b"2"}),
        (b"a=1&a=2", {b"a": b"1"}),
        (b"a%3D=%26", {b"a=": b"&"}),
        (b"a", {b"a": b""}),
        (b"a=1=2", {b"a": b"1=2"}),
        (b"a=x+y", {b"a": b"x+y"}),
    ],
)
def test_parameters_are_decoded_and_the_first_of_a_name_counts(query: bytes, parameters: dict[bytes, bytes]) -> None:
    assert parse_query(query) == parameters
