import pytest

from policies.matching import Exact, Regex


def test_exact_means_byte_for_byte() -> None:
    match = Exact(b"jason")

    assert match.accepts(b"jason")
    assert not match.accepts(b"Jason")
    assert not match.accepts(b"jason ")


def test_an_expression_must_match_the_whole_value() -> None:
    match = Regex.parse("v[0-9]+|latest")

    assert match.accepts(b"v12")
    assert match.accepts(b"latest")
    assert not match.accepts(b"v12-rc")
    assert not match.accepts(b"the latest")


def test_a_value_that_is_not_utf8_does_not_match_and_does_not_fail() -> None:
    assert not Regex.parse("[a-z]+").accepts(b"\xff\xfe")


def test_a_hostile_expression_stays_linear() -> None:
    assert not Regex.parse("(a*)*b").accepts(b"a" * 50_000)


@pytest.mark.parametrize("expression", ["(", "a{2,1}", r"(a)\1", "(?=a)"])
def test_what_re2_does_not_take_is_refused_with_a_sentence(expression: str) -> None:
    with pytest.raises(ValueError, match="is not a valid RE2 expression"):
        Regex.parse(expression)


def test_an_expression_that_compiles_to_too_many_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 32768 are allowed"):
        Regex.parse("(?:[a-z]{1000}[0-9]{1000}){1}" * 20)


def test_expressions_are_equal_by_their_text() -> None:
    assert Regex.parse("a+") == Regex.parse("a+")
    assert Regex.parse("a+") != Regex.parse("a*")
    assert repr(Regex.parse("a+")) == "Regex(value=b'a+')"
