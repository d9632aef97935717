"""The transformation refuses code that it does not understand, and names the place."""

from pathlib import Path

import pytest

from twin import read
from twin.module import Module
from twin.refused import Refused

INTERFACE = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")
METHODS = "\n".join(f"    def {name}(self, it=None): ..." for name in INTERFACE)

BAD = {
    "a decorator": (1, "@final", "decorated with final", "class A:\n    __slots__ = ('x',)"),
    "a dataclass by another name": (
        *(1, "@dataclasses.dataclass(slots=True)", "decorated with dataclasses.dataclass"),
        "class A:\n    x: int",
    ),
    "an option of dataclass": (1, "@dataclass(slots=True, order=True)", "order=True", "class A:\n    x: int"),
    "an option switched off": (1, "@dataclass(slots=True, frozen=False)", "frozen=False", "class A:\n    x: int"),
    "a dataclass with another decorator": (1, "@final", "nothing else", "@dataclass(slots=True)\nclass A:\n    x: int"),
    "a dataclass on several lines": (1, "@dataclass(", "several lines", "    slots=True)\nclass A:\n    x: int\n"),
    "a dataclass without slots": (2, "@dataclass", "A is not a struct", "class A:\n    x: int"),
    "a dataclass with a base": (2, "@dataclass(slots=True)", "A is not a struct", "class A(B):\n    x: int"),
    "a dataclass in a function": (3, "def f():", "A is not a struct", "    @dataclass\n    class A:\n        x: int"),
    "slots beside a dataclass": (
        *(3, "@dataclass(slots=True)", "__slots__ = ("),
        "class A:\n    __slots__ = ('x',)\n    x: int",
    ),
    "slots that are computed": (1, "class A:", "not a tuple of names", "    __slots__ = tuple('ab')"),
    "slots that are one text": (1, "class A:", "not a tuple of names", "    __slots__ = 'ab'"),
    "slots with an annotation": (1, "class A:", "not a tuple of names", "    __slots__: tuple[str, ...] = ('x',)"),
    "a slot for weak references": (1, "class A:", "__weakref__", "    __slots__ = ('__weakref__',)"),
    "a slot with a private name": (1, "class A:", "__x", "    __slots__ = ('__x',)"),
    "a class variable": (3, "@dataclass(slots=True)", "x of A is not a field", "class A:\n    x: ClassVar[int] = 1"),
    "an init variable": (3, "@dataclass(slots=True)", "x of A is not a field", "class A:\n    x: InitVar[int]"),
    "an option of a field": (3, "@dataclass(slots=True)", "kw_only", "class A:\n    x: int = field(kw_only=True)"),
    "a default beside slots": (3, "class A:", "x: int = 1", "    __slots__ = ('x',)\n    x: int = 1"),
    "a condition": (3, "class A:", "if DEBUG", "    __slots__ = ('x',)\n    if DEBUG:\n        y = 1"),
    "a class inside": (3, "class A:", "class B", "    __slots__ = ('x',)\n    class B: ..."),
    "two names at once": (3, "class A:", "y, z = ", "    __slots__ = ('x',)\n    y, z = 1, 2"),
    "a special attribute": (3, "class A:", "__match_args__", "    __slots__ = ('x',)\n    __match_args__ = ('x',)"),
    "a special method": (3, "class A:", "A.__new__", "    __slots__ = ('x',)\n    def __new__(cls): ..."),
    "an end": (3, "class A:", "A.__del__", "    __slots__ = ('x',)\n    def __del__(self): ..."),
    "a private method": (3, "class A:", "A.__m", "    __slots__ = ('x',)\n    def __m(self): ..."),
    "a method without self": (3, "class A:", "not self", "    __slots__ = ('x',)\n    def m(this): ..."),
    "a method that is there twice": (
        *(3, "class A:", "several definitions"),
        "    __slots__ = ('x',)\n    def m(self): return 1\n    def m(self): return 2",
    ),
    "the back door of a frozen one": (
        *(4, "@dataclass(frozen=True, slots=True)", "object.__setattr__"),
        "class A:\n    def __post_init__(self):\n        object.__setattr__(self, self.name, 1)\n    x: int",
    ),
    "the back door to another object": (
        *(4, "@dataclass(frozen=True, slots=True)", "object.__setattr__"),
        "class A:\n    def __post_init__(self):\n        object.__setattr__(self.x, 'y', 1)\n    x: int",
    ),
    "the back door by another name": (
        *(4, "@dataclass(frozen=True, slots=True)", "super().__setattr__"),
        "class A:\n    def __post_init__(self):\n        super().__setattr__('x', 1)\n    x: int",
    ),
    "no room for a method": (2, "@dataclass(slots=True)", "no empty line", "class A:\n    x: int\ny = 1"),
    "a function that is there twice": (3, "def f(): ...", "f has several definitions", "\ndef f(): ..."),
    "a function that is replaced": (1, "def f(): ...", "f has several definitions", "f = cache(f)"),
    "a struct that is replaced": (1, "class A:", "A has several definitions", "    __slots__ = ('x',)\nA = B"),
    "a global": (3, "x = 1", "global", "def f():\n    global x\n    x = 2"),
    "a field by another name": (
        *(3, "@dataclass(slots=True)", "field by its name"),
        "class A:\n    x: int = dataclasses.field(repr=False)",
    ),
    "a name of dataclasses that is changed": (1, "from dataclasses import field as f", "without renaming them", ""),
    "names that are hidden": (1, "from x import *", "import *", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_could_mean_something_else_is_refused(name: str) -> None:
    line, first, sentence, rest = BAD[name]

    with pytest.raises(Refused) as refused:
        Module("l4/it.py", f"{first}\n{rest}\n")

    assert str(refused.value).startswith(f"l4/it.py:{line}: ")
    assert sentence in str(refused.value)


def folder_of(tmp_path: Path, **modules: str) -> Path:
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize("missing", INTERFACE)
def test_a_protocol_without_a_method_that_asyncio_calls_is_refused(tmp_path: Path, missing: str) -> None:
    text = f"class A(asyncio.Protocol):\n    __slots__ = ('x',)\n{METHODS.replace(missing, 'other')}\n"

    with pytest.raises(Refused, match=rf"it\.py:1: A loses asyncio's interface, and has no {missing}\(\)"):
        read(folder_of(tmp_path, it=text), ["it.py"])


def test_the_classes_derived_from_a_protocol_may_have_the_method_instead(tmp_path: Path) -> None:
    base = f"class A(asyncio.Protocol):\n    __slots__ = ('x',)\n{METHODS.replace('data_received', 'other')}\n"
    good = "from base import A as Base\nclass B(Base):\n    def data_received(self, data): ...\n"
    bad = "from base import A\nclass C(A):\n    def received(self, data): ...\n"
    folder = folder_of(tmp_path, base=base, good=good, bad=bad)

    assert set(read(folder, ["base.py", "good.py"])) == {"base", "good"}
    with pytest.raises(Refused, match="data_received"):
        read(folder, ["base.py", "good.py", "bad.py"])


def test_an_override_with_default_values_of_its_own_is_refused(tmp_path: Path) -> None:
    base = "class A:\n    __slots__ = ('x',)\n    def m(self, a, b=1): ...\n"
    same = "from base import A\nclass B(A):\n    def m(self, a, b=1): ...\n"
    other = "import z\nfrom base import A\nclass C(A):\n    def m(self, a, b=2): ...\n"
    folder = folder_of(tmp_path, base=base, same=same, other=other)

    assert set(read(folder, ["base.py", "same.py"])) == {"base", "same"}
    with pytest.raises(Refused, match=r"other\.py:4: C\.m has other default values than A\.m"):
        read(folder, ["base.py", "same.py", "other.py"])
