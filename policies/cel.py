"""The part of CEL that Istio's Telemetry needs: expressions over the attributes of one request.

https://github.com/google/cel-spec. There are no macros and no loops, so that an expression costs at most what its text
is long. Names of attributes are checked when an expression is compiled. Evaluating cannot fail: without a value, such
as for a header that the request does not have, the result is None.

    or:      and ("||" and)* ["?" or ":" or]
    and:     compare ("&&" compare)*
    compare: sum (("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") sum)*
    sum:     unary (("+" | "-") unary)*
    unary:   ("!" | "-")* value ("." method "(" … ")" | "[" or "]")*
    value:   literal | attribute | function "(" … ")" | "(" or ")" | "[" or, … "]"
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from policies.matching import Regex

T = TypeVar("T")

Value = Any
"""A text, a number, a truth value, a list, a mapping of texts, or None."""
Attributes = Mapping[str, Callable[[T], Value]]
"""How to read each attribute, such as `request.host`."""

MAX_TEXT = 4096
_MAX_DEPTH = 32
_MAX_TOKENS = 256  # each may be one more call deep
_MAX_RESULT = 1024
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|"""
    r"""(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|(?P<sign>\|\||&&|==|!=|<=|>=|[-+<>!?:()\[\],.]))"""
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_LITERALS: Mapping[str, Value] = {"true": True, "false": False, "null": None}
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class InvalidExpression(ValueError):
    """The expression cannot be understood. The message says what, and where."""


class _NoValue(Exception):
    """An operand is missing or has the wrong type."""


@dataclass(frozen=True, slots=True)
class Expression(Generic[T]):
    """`text` is as written."""

    text: str
    _evaluate: Callable[[T], Value] = field(repr=False, compare=False)

    @classmethod
    def compile(cls, text: str, attributes: "Attributes[T]") -> "Expression[T]":
        """Raises InvalidExpression."""
        if len(text) > MAX_TEXT:
            raise InvalidExpression(f"the expression is longer than {MAX_TEXT} characters")
        return cls(text, _Parser(text, attributes).whole())

    def value(self, subject: T) -> Value:
        """Return the value, or None without one."""
        try:
            return self._evaluate(subject)
        except _NoValue:
            return None

    def holds(self, subject: T) -> bool:
        return self.value(subject) is True


Node = Callable[[T], Value]


class _Parser(Generic[T]):
    def __init__(self, text: str, attributes: "Attributes[T]") -> None:
        self._attributes = attributes
        self._tokens: list[tuple[str, str, int]] = []
        self._next = 0
        self._depth = 0
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise InvalidExpression(f"at character {at + 1}: {text[at : at + 10].strip()!r} is not understood")
            if len(self._tokens) == _MAX_TOKENS:
                raise InvalidExpression(f"the expression has more than {_MAX_TOKENS} words and signs")
            self._tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) + 1))
            at = match.end()

    def whole(self) -> Node[T]:
        node = self._or()
        if self._next < len(self._tokens):
            raise self._unexpected()
        return node

    # -- tokens ----------------------------------------------------------------------------------------------------

    def _unexpected(self) -> InvalidExpression:
        if self._next >= len(self._tokens):
            return InvalidExpression("the expression ends too early")
        _, text, at = self._tokens[self._next]
        return InvalidExpression(f"at character {at}: {text!r} is not expected")

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _takes(self, *texts: str) -> str:
        """Take the next token if it is one of `texts`."""
        if self._next < len(self._tokens):
            kind, text, _ = self._tokens[self._next]
            if text in texts and kind != "text":
                self._next += 1
                return text
        return ""

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            raise self._unexpected()

    # -- grammar ---------------------------------------------------------------------------------------------------

    def _or(self) -> Node[T]:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidExpression(f"the expression is nested more than {_MAX_DEPTH} times")
        node = self._and()
        while self._takes("||"):
            node = _either(node, self._and(), decisive=True)
        if self._takes("?"):
            then = self._or()
            self._expect(":")
            node = _conditional(node, then, self._or())
        self._depth -= 1
        return node

    def _and(self) -> Node[T]:
        node = self._compare()
        while self._takes("&&"):
            node = _either(node, self._compare(), decisive=False)
        return node

    def _compare(self) -> Node[T]:
        node = self._sum()
        while sign := self._takes("==", "!=", "<", "<=", ">", ">=", "in"):
            node = _compared(sign, node, self._sum())
        return node

    def _sum(self) -> Node[T]:
        node = self._unary()
        while sign := self._takes("+", "-"):
            node = _added(sign, node, self._unary())
        return node

    def _unary(self) -> Node[T]:
        signs = ""
        while sign := self._takes("!", "-"):
            signs += sign
        node = self._value()
        while sign := self._takes(".", "["):
            node = self._indexed(node) if sign == "[" else self._method(node)
        for sign in reversed(signs):
            node = _negated(sign, node)
        return node

    def _indexed(self, node: Node[T]) -> Node[T]:
        key = self._or()
        self._expect("]")
        return _looked_up(node, key)

    def _method(self, node: Node[T]) -> Node[T]:
        if self._next >= len(self._tokens) or self._tokens[self._next][0] != "name":
            raise self._unexpected()
        name = self._tokens[self._next][1]
        self._next += 1
        return self._called(name, node)

    def _called(self, name: str, node: Node[T]) -> Node[T]:
        """Return the call of a method, whose name has been taken."""
        self._expect("(")
        if name == "size":
            self._expect(")")
            return _function("size", node)
        if name not in _METHODS and name != "matches":
            self._next -= 2
            raise self._unexpected()
        kind, written, _ = self._tokens[self._next] if self._next < len(self._tokens) else ("", "", 0)
        argument = self._or()
        self._expect(")")
        if name != "matches":
            return _text_method(_METHODS[name], node, argument)
        if kind != "text":
            raise InvalidExpression("matches(…) takes a text")
        try:
            pattern = Regex.parse(f"(?s:.*)(?:{_unquoted(written)})(?s:.*)")
        except ValueError as error:
            raise InvalidExpression(str(error)) from None
        return _text_method(lambda text, _: pattern.accepts(text.encode()), node, argument)

    def _value(self) -> Node[T]:
        if self._next >= len(self._tokens):
            raise self._unexpected()
        kind, text, at = self._tokens[self._next]
        self._next += 1
        match kind:
            case "number":
                number = float(text) if "." in text else int(text)
                return lambda subject: number
            case "text":
                literal = _unquoted(text)
                return lambda subject: literal
            case "name":
                return self._named(text, at)
        if text == "(":
            node = self._or()
            self._expect(")")
            return node
        if text == "[":
            items = [] if self._peek() == "]" else [self._or()]
            while self._takes(","):
                items.append(self._or())
            self._expect("]")
            return lambda subject: [item(subject) for item in items]
        self._next -= 1
        raise self._unexpected()

    def _named(self, name: str, at: int) -> Node[T]:
        if name in _LITERALS:
            literal = _LITERALS[name]
            return lambda subject: literal
        if self._peek() == "(" and (name in _FUNCTIONS or name == "has"):
            self._next += 1
            argument = self._or()
            self._expect(")")
            return _has(argument) if name == "has" else _function(name, argument)
        read = self._attributes.get(name)
        if read is not None:
            return _attribute(read)
        known, _, last = name.rpartition(".")
        read = self._attributes.get(known)
        if read is None:
            raise InvalidExpression(f"at character {at}: there is no attribute {name!r}")
        if self._peek() == "(":
            return self._called(last, _attribute(read))
        return _looked_up(_attribute(read), lambda subject: last)


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), text[1:-1])


# -- nodes -------------------------------------------------------------------------------------------------------------


def _attribute(read: Callable[[T], Value]) -> Node[T]:
    def evaluate(subject: T) -> Value:
        value = read(subject)
        if value is None:
            raise _NoValue
        return value

    return evaluate


def _has(node: Node[T]) -> Node[T]:
    def evaluate(subject: T) -> Value:
        try:
            return node(subject) is not None
        except _NoValue:
            return False

    return evaluate


def _either(one: Node[T], other: Node[T], *, decisive: bool) -> Node[T]:
    """`||` or `&&`: a decisive operand decides, even if the other one has no value."""

    def evaluate(subject: T) -> Value:
        try:
            if one(subject) is decisive:
                return decisive
        except _NoValue:
            if other(subject) is decisive:
                return decisive
            raise
        value = other(subject)
        if not isinstance(value, bool):
            raise _NoValue
        return value

    return evaluate


def _conditional(condition: Node[T], then: Node[T], otherwise: Node[T]) -> Node[T]:
    def evaluate(subject: T) -> Value:
        value = condition(subject)
        if not isinstance(value, bool):
            raise _NoValue
        return then(subject) if value else otherwise(subject)

    return evaluate


def _compared(sign: str, one: Node[T], other: Node[T]) -> Node[T]:
    if sign == "in":

        def contains(subject: T) -> Value:
            item, container = one(subject), other(subject)
            if not isinstance(container, list | Mapping):
                raise _NoValue
            return item in container

        return contains
    if sign in ("==", "!="):
        is_wanted = sign == "=="
        return lambda subject: (one(subject) == other(subject)) is is_wanted
    compare = _ORDER[sign]

    def evaluate(subject: T) -> Value:
        left, right = one(subject), other(subject)
        if not _is_number(left, right) and not (isinstance(left, str) and isinstance(right, str)):
            raise _NoValue
        return compare(left, right)

    return evaluate


def _added(sign: str, one: Node[T], other: Node[T]) -> Node[T]:
    def evaluate(subject: T) -> Value:
        left, right = one(subject), other(subject)
        if _is_number(left, right):
            return left + right if sign == "+" else left - right
        if sign == "-" or not isinstance(left, str) or not isinstance(right, str):
            raise _NoValue
        return (left + right)[:_MAX_RESULT]

    return evaluate


def _is_number(*values: Value) -> bool:
    return all(isinstance(it, int | float) and not isinstance(it, bool) for it in values)


def _negated(sign: str, node: Node[T]) -> Node[T]:
    def evaluate(subject: T) -> Value:
        value = node(subject)
        if sign == "!":
            if not isinstance(value, bool):
                raise _NoValue
            return not value
        if not _is_number(value):
            raise _NoValue
        return -value

    return evaluate


def _looked_up(container: Node[T], key: Node[T]) -> Node[T]:
    def evaluate(subject: T) -> Value:
        found, name = container(subject), key(subject)
        if not isinstance(found, Mapping) or not isinstance(name, str) or name not in found:
            raise _NoValue
        return found[name]

    return evaluate


_METHODS: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


def _text_method(method: Callable[[str, str], bool], node: Node[T], argument: Node[T]) -> Node[T]:
    def evaluate(subject: T) -> Value:
        text, other = node(subject), argument(subject)
        if not isinstance(text, str) or not isinstance(other, str):
            raise _NoValue
        return method(text, other)

    return evaluate


def text_of(value: Value) -> str:
    """Return a value as `string(…)` does."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


_FUNCTIONS: Mapping[str, Callable[[Value], Value]] = {"string": text_of, "int": int, "double": float, "size": len}


def _function(name: str, argument: Node[T]) -> Node[T]:
    function = _FUNCTIONS[name]

    def evaluate(subject: T) -> Value:
        try:
            return function(argument(subject))
        except (TypeError, ValueError):
            raise _NoValue from None

    return evaluate
