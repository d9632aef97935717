"""A small package, interpreted and compiled: both give the same results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import twin

ROOT = Path(__file__).parents[2]

PARTS = '''
import asyncio
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    name: bytes = b""
    secret: str = field(default="", repr=False)


@dataclass(slots=True)
class Bag:
    things: list[bytes] = field(default_factory=list)
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.things)


@dataclass(frozen=True, slots=True)
class Square:
    side: int
    area: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", self.side * max(
            self.side, 0
        ))


@dataclass(frozen=True, slots=True)
class Nothing:
    """It has no field."""


class Node:
    __slots__ = ("data", "label", "next")

    series = 3

    def __init__(self, label: bytes) -> None:
        self.label = label
        self.next: Node | None = None

    @property
    def length(self) -> int:
        return len(self.label)

    def last(self) -> bytes:
        return self.next.label

    def last_of_last(self) -> bytes:
        return self.next.last()

    def forget(self) -> None:
        del self.next

    def label_of_data(self) -> bytes:
        return self.data.label

    def doubled(self, times: int = 2) -> bytes:
        return self.label * times

    def again(self) -> bytes:
        return self.doubled()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and other.label == self.label


class Wire(asyncio.Protocol):
    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def connection_made(self, transport): ...

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)

    def eof_received(self) -> None: ...

    def connection_lost(self, error): ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


def pick(point: Point, default: bytes = b"-") -> bytes:
    return point.name or default


def fail(node: Node) -> None:
    before = 1

    raise ValueError(node.label)


def first(nodes: list[Node]) -> Node:
    return nodes[5]
'''

USERS = """
from parts import Node, Point, pick


class Loud(Node):
    __slots__ = ("volume",)

    def __init__(self, label: bytes, volume: int = 1) -> None:
        super().__init__(label)
        self.volume = volume

    def doubled(self, times: int = 2) -> bytes:
        return super().doubled(times + self.volume).upper()


class Louder(Loud):
    __slots__ = ()

    def again(self) -> bytes:
        return super().again() + b"!"


class Open(Louder):
    def doubled(self, times: int = 2) -> bytes:
        return b"<%b>" % super().doubled(times)


def use(point: Point) -> bytes:
    return pick(point) + pick(point, default=b"+")
"""

PROGRAM = """
import copy, dataclasses, json, sys, traceback
import parts, users

said = []

def say(what):
    try:
        said.append(repr(what()))
    except Exception as error:
        kind = next(it for it in (AttributeError, TypeError, Exception) if isinstance(error, it))
        sentence = str(error) if kind is Exception else kind.__name__  # Cython words these two in its own way
        where = traceback.extract_tb(error.__traceback__)[-1]
        said.append([sentence, where.lineno if where.filename.endswith("parts.py") else 0])

point, node, loud = parts.Point(1, b"n", "hush"), parts.Node(b"label"), users.Loud(b"loud")
say(lambda: point)
say(lambda: (parts.Bag(), parts.Bag([b"x"]).count, parts.Nothing(), parts.Nothing() == parts.Nothing()))
say(lambda: point == parts.Point(1, b"n", "hush"))
say(lambda: point == parts.Point(1, b"n", "other"))
say(lambda: hash(point) == hash(parts.Point(1, b"n", "hush")))
say(lambda: dataclasses.replace(point, x=2))
say(lambda: [it.name for it in dataclasses.fields(parts.Bag)])
say(lambda: setattr(point, "x", 3))
say(lambda: (parts.Square(3), parts.Square(3).area, dataclasses.replace(parts.Square(3), side=4).area))
say(lambda: setattr(parts.Square(3), "area", 3))
say(lambda: setattr(node, "unknown", 3))
say(lambda: parts.Point())
say(lambda: parts.Point(1, name=b"by name"))
say(lambda: (node.series, node.length, node.doubled(), node.doubled(3), node.doubled(times=1)))
say(lambda: (loud.doubled(), loud.again(), loud.length, loud.volume))
say(lambda: (users.Louder(b"it", 2).again(), users.Open(b"it", volume=3).again()))
say(lambda: (node == parts.Node(b"label"), node == 1))
say(lambda: hash(node))
say(lambda: node.last())
say(lambda: node.last_of_last())
say(lambda: node.label_of_data())
say(lambda: node.forget())
say(lambda: node.last())
say(lambda: (parts.pick(point), parts.pick(parts.Point(1)), parts.pick(parts.Point(1), b"given"), users.use(point)))
say(lambda: parts.pick(None))
say(lambda: parts.fail(node))
say(lambda: parts.first([node]))
match point:
    case parts.Point(x, name):
        said.append([x, repr(name)])
wire = parts.Wire()
wire.data_received(b"one")
said.append(repr(wire.seen))
json.dump({"said": said, "files": [parts.__file__, users.__file__]}, sys.stdout)
"""

COMPILE = "import sys, pathlib, twin; twin.compile_into(*map(pathlib.Path, sys.argv[1:3]), sys.argv[3:])"


def run(folder: Path) -> Any:
    command = [sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not twin.can_compile(), reason="no C compiler and headers of Python are here")
def test_the_compiled_program_says_what_the_plain_one_says(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "parts.py").write_text(PARTS)
    (plain / "users.py").write_text(USERS)
    command = [sys.executable, "-c", COMPILE, str(tmp_path / "twin"), str(plain), "parts.py", "users.py"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=280)
    (tmp_path / "twin" / "built" / "policies" / "__init__.py").touch()  # else the project's own package comes first

    as_it_is, compiled = run(plain), run(tmp_path / "twin" / "built")

    assert all(it.endswith(".py") for it in as_it_is["files"])
    assert all(it.endswith(".so") for it in compiled["files"])
    assert compiled["said"] == as_it_is["said"]
    assert as_it_is["said"][0] == "Point(x=1, name=b'n')"
