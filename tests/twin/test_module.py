"""The edited text of a module, and its declarations for Cython."""

import ast
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from twin import HOT, read
from twin.module import Module

ROOT = Path(__file__).parents[2]


@cache
def modules() -> dict[str, Module]:
    return read(ROOT)


def module(text: str, path: str = "it.py") -> Module:
    return Module(path, dedent(text))


@pytest.mark.parametrize("path", HOT)
def test_of_a_hot_module_only_the_edited_lines_differ_and_none_moves(path: str) -> None:
    before = (ROOT / path).read_text().splitlines()
    made = modules()[path.removesuffix(".py").replace("/", ".")]
    after = made.source.splitlines()
    edited = {
        number
        for struct in made.structs.values()
        for node in (struct.node, *struct.node.decorator_list)
        for number in (node.lineno, (struct.node.end_lineno or 0) + 1)
    } | {number for number, line in enumerate(before, 1) if "object.__setattr__(self" in line or "super()." in line}

    ast.parse(made.source)
    assert len(after) - len(before) in (0, 1)  # a method may stand behind the last line
    assert {number for number, (one, other) in enumerate(zip(before, after, strict=False), 1) if one != other} <= edited


def test_a_dataclass_loses_slots_and_gets_a_repr_on_the_empty_line_behind_it() -> None:
    made = module(
        """\
        @dataclass(frozen=True, slots=True)  # a remark
        class Point:
            '''Wörter.'''
            x: int
            secret: str = field(default="", repr=False)

        after = 1
        """
    )

    assert made.source.splitlines() == [
        "@dataclass(frozen=True, repr=False)  # a remark",
        "class Point:",
        "    '''Wörter.'''",
        "    x: int",
        '    secret: str = field(default="", repr=False)',
        '    def __repr__(self): return f"Point(x={self.x!r})"',
        "after = 1",
    ]


def test_a_repr_that_is_there_stays() -> None:
    made = module(
        """\
        @dataclass(slots=True)
        class Point:
            x: int
            def __repr__(self): return "here"
        """
    )

    assert made.source.count("__repr__") == 1


def test_words_in_texts_are_no_classes() -> None:
    text = 'DOCUMENTATION = """\n@dataclass(slots=True)\nclass A(asyncio.Protocol):\n    x: int\n"""\n'

    assert module(text).source == text
    assert not module(text).structs


def test_other_classes_remain_pythons() -> None:
    made = module(
        """\
        class Failure(Exception):
            __slots__ = ("x",)

        class Kind(Enum):
            ONE = 1

        class Plain:
            x = 1

        class Meta(metaclass=Other):
            __slots__ = ("x",)
        """
    )

    assert not made.structs
    assert made.declarations({"it": made}) == "cimport cython\n"


def test_fields_parameters_results_and_locals_have_the_types_of_their_annotations() -> None:
    made = module(
        """\
        Nodes = list["Node"]

        class Node:
            __slots__ = ("children", "data", "left", "made", "other", "size")

            def __init__(self, data: bytes, other: "Other | None", size: int) -> None:
                self.data = data
                self.other = other
                self.size = size
                self.made = Node(b"", None, 0)
                other.left = b""
                self.children: Nodes = []

            def find(self, name: bytes, default: "Node | None" = None) -> "Node | None":
                found: Node | None = default
                return found

        def free(node: Node, names: set[bytes]) -> dict[bytes, Node]:
            return {}

        def lazy(node: Node):
            return (it for it in node.children)
        """
    )

    assert made.declarations({"it": made}).splitlines() == [
        "cimport cython",
        "cdef class Node",
        "cdef class Node:",
        "    cdef public list children",
        "    cdef public bytes data",
        "    cdef public object left",
        "    cdef public Node made",
        "    cdef public object other",
        "    cdef public object size",
        "    @cython.locals(found=Node)",
        "    cpdef Node find(self, bytes name, Node default=*)",
        "cpdef dict free(Node node, object names)",
    ]


def test_a_name_that_is_bound_twice_is_no_type() -> None:
    text = """
        if IS_NEW:
            from new import Node
        else:
            from old import Node

        list = tuple

        def first(node: Node, nodes: list[Node]): ...
        """
    modules = {it: module("class Node:\n    __slots__ = ('x',)\n", f"{it}.py") for it in ("new", "old")}

    assert "cpdef object first(object node, object nodes)" in module(text).declarations(modules)


def test_a_struct_and_a_function_of_another_hot_module_are_known_by_where_they_are_from() -> None:
    shapes = module("class Node:\n    __slots__ = ('x',)\n\ndef walk(node: Node): ...\n", "shapes.py")
    users = module(
        """\
        if TYPE_CHECKING:
            from shapes import Node as Shape
        from cold import Thing
        from shapes import walk

        def use(shape: Shape, thing: Thing): ...
        """,
        "users.py",
    )

    assert users.declarations({"shapes": shapes, "users": users}).splitlines() == [
        "cimport cython",
        "from shapes cimport Node",
        "from shapes cimport walk",
        "cpdef object use(Node shape, object thing)",
    ]


def test_a_class_that_derives_from_a_struct_is_one_and_calls_its_methods_by_name(tmp_path: Path) -> None:
    (tmp_path / "bases.py").write_text("class Base:\n    __slots__ = ('x',)\n    def m(self, a: bytes, *, b=1): ...\n")
    (tmp_path / "them.py").write_text(
        dedent(
            """\
            from bases import Base
            class Last(First):
                __slots__ = ("y",)
            class First(Base):
                __slots__ = ()
                def m(self, a: bytes, *, b=1):
                    return [super().m(a, b=2), super().n()]
            class Open(Base):
                pass
            class Decorated(Base, Generic[T]):
                __slots__ = ()
            """
        )
    )
    made = read(tmp_path, ["bases.py", "them.py"])["them"]

    assert set(made.structs) == {"Last", "First"}
    assert "return [Base.m(self, a, b=2), Base.n(self)]" in made.source
    assert {"from bases cimport Base", "cdef class First(Base):", "cdef class Last(First):"} <= set(
        made.declarations(read(tmp_path, ["bases.py", "them.py"])).splitlines()
    )


def test_no_class_of_another_module_replaces_a_field_of_a_struct() -> None:
    """Compiled code reads fields where they lie in memory, whatever a derived class puts in their place."""
    fields = {(it.name, struct.name): struct.fields for it in modules().values() for struct in it.structs.values()}
    replaced = []
    for path in (path for it in ("policies", "l4", "waypoint") for path in (ROOT / it).rglob("*.py")):
        tree = ast.parse(path.read_text())
        imports = (it for it in ast.walk(tree) if isinstance(it, ast.ImportFrom))
        known = {alias.asname or alias.name: (it.module or "", alias.name) for it in imports for alias in it.names}
        for node in (it for it in ast.walk(tree) if isinstance(it, ast.ClassDef)):
            inherited = {name for base in node.bases for name in fields.get(known.get(ast.unparse(base), ("", "")), ())}
            own = {it.name for it in node.body if isinstance(it, ast.FunctionDef)}
            replaced += [f"{node.name}.{name}" for name in own & inherited]

    assert replaced == []
