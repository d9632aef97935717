from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.cel import Expression, InvalidExpression, text_of

ATTRIBUTES = {
    name: lambda subject, name=name: subject.get(name)
    for name in ("request.host", "request.headers", "response.code", "connection.mtls", "nothing")
}
SUBJECT = {
    "request.host": "reviews:9080",
    "request.headers": {"x-user": "jason", "accept": "*/*"},
    "response.code": 503,
    "connection.mtls": True,
}


def value(text: str) -> object:
    expression: Expression[Mapping[str, object]] = Expression.compile(text, ATTRIBUTES)
    return expression.value(SUBJECT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("response.code >= 500", True),
        ("response.code == 503 && connection.mtls", True),
        ("response.code < 500 || request.host.startsWith('reviews')", True),
        ("!(response.code == 200)", True),
        ("request.headers['x-user']", "jason"),
        ("request.headers.accept", "*/*"),
        ("'x-user' in request.headers", True),
        ("'x-none' in request.headers", False),
        ("has(request.headers['x-none'])", False),
        ("has(request.host)", True),
        ("request.headers['x-none']", None),
        ("request.headers['x-none'] == 'a' || response.code == 503", True),
        ("response.code == 503 || request.headers['x-none'] == 'a'", True),
        ("request.headers['x-none'] == 'a' && response.code == 503", None),
        ("request.headers['x-none'] == 'a' && response.code == 200", False),
        ("nothing", None),
        ("nothing == null", None),
        ("response.code in [500, 503]", True),
        ("response.code + 1 - 4", 500),
        ("-response.code", -503),
        ("'a' + \"b\"", "ab"),
        ("'a' + 1", None),
        ("'a' < 1", None),
        ("true < false", None),
        ("connection.mtls ? 'yes' : 'no'", "yes"),
        ("request.host ? 'yes' : 'no'", None),
        ("string(response.code)", "503"),
        ("string(connection.mtls)", "true"),
        ("int('12') == 12", True),
        ("int('a')", None),
        ("size(request.host)", 12),
        ("request.host.size() > 3", True),
        ("request.host.contains('views')", True),
        ("request.host.endsWith(':9080')", True),
        ("request.host.matches('^rev.*80$')", True),
        ("request.host.matches('view')", True),
        ("request.host.matches('^view')", False),
        (r"""'it\'s\n' == "it's\n" """, True),
    ],
)
def test_expressions_have_the_values_of_cel(text: str, expected: object) -> None:
    found = value(text)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "ends too early"),
        ("response.code >", "ends too early"),
        ("respons.code == 1", "at character 1: there is no attribute 'respons.code'"),
        ("true && request.hots == 'a'", "at character 9: there is no attribute 'request.hots'"),
        ("response.code = 1", "at character 14"),
        ("response.code == 1)", "')' is not expected"),
        ("request.host.lower()", "is not expected"),
        ("request.host.matches(request.host)", "takes a text"),
        ("request.host.matches('(')", "RE2"),
        ("(" * 100 + "1" + ")" * 100, "nested more than"),
        ("1+" * 200 + "1", "more than 256"),
        ("'" + "a" * 5000 + "'", "longer than"),
        ("'a", "is not understood"),
        ("[1, 2].all(x, x > 0)", "is not expected"),
        ("request.host{}", "is not understood"),
    ],
)
def test_what_is_not_understood_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        value(text)

    assert words in str(caught.value)


@given(st.text(st.sampled_from("ab.()[]'\"!&|=<>?:+-,1 \\"), max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(InvalidExpression):
        value(text)


def test_texts_do_not_grow_without_limit() -> None:
    found = value(" + ".join(["request.host"] * 120))

    assert isinstance(found, str)
    assert len(found) == 1024


def test_a_condition_without_a_value_does_not_hold() -> None:
    expression: Expression[Mapping[str, object]] = Expression.compile("request.headers['x-none'] == 'a'", ATTRIBUTES)

    assert not expression.holds(SUBJECT)
    assert repr(expression) == f"Expression(text={expression.text!r})"
    assert text_of(False) == "false"
