"""Classes that become C structs, and the limits of structs."""

import ast
from collections.abc import Iterator
from typing import TypeGuard

from twin.edits import Edits
from twin.refused import Refused

_INTERFACES = {
    "asyncio.Protocol": {
        *("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")
    },
    "asyncio.Transport": {"get_extra_info"},
}
"""A struct cannot inherit from these interfaces, so the twin's struct drops them. The struct, or each class derived
from it, must define these methods; the interface's other methods exist only to be overridden."""

_SAME_SPECIAL = {
    *("__init__", "__post_init__", "__repr__", "__str__", "__bytes__", "__bool__", "__len__", "__hash__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__contains__", "__iter__", "__next__"),
    *("__getitem__", "__call__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__await__"),
}
"""The special methods that have the same meaning in a struct."""

_SLOTS = {"slots": "True"}
_FROZEN = {"frozen": "True"}
_FIELD_OPTIONS = {"default", "default_factory", "init", "repr", "compare"}

_INDIRECT = (
    ast.Lambda,
    ast.GeneratorExp,
    ast.Yield,
    ast.YieldFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
)


class Struct:
    """A class that becomes a C struct. `base` is the struct it derives from, if any. Raises Refused if it cannot."""

    def __init__(self, path: str, node: ast.ClassDef, base: ast.expr | None = None) -> None:
        self._path = path
        self.node = node
        self.name = node.name
        self.base = base
        self.is_dataclass = bool(node.decorator_list)
        self.is_frozen = False
        for decorator in node.decorator_list:
            self._read_decorator(decorator)
        self.fields = [it.target.id for it in node.body if _is_field(it)] if self.is_dataclass else self._slots()
        for name in self.fields:
            if name.startswith("__"):
                raise Refused(path, node, f"{self.name} has the field {name}, which Python renames or means itself")
        self.methods = {it.name: it for it in node.body if isinstance(it, ast.FunctionDef) and is_direct(it)}
        for statement in node.body:
            self._check(statement)
        self._interfaces = [it for it in node.bases if it is not base]
        self.lacks = set().union(*(_INTERFACES[ast.unparse(it)] for it in self._interfaces)) - set(methods_of(node))

    def _read_decorator(self, decorator: ast.expr) -> None:
        match decorator:
            case ast.Call(func=ast.Name(id="dataclass"), args=[], keywords=keywords):
                options = {it.arg: ast.unparse(it.value) for it in keywords}
                if len(self.node.decorator_list) == 1 and options in (_SLOTS, _SLOTS | _FROZEN):
                    self.is_frozen = "frozen" in options
                    return
        sentence = f"{self.name} is decorated with {ast.unparse(decorator)}; a struct may be @dataclass(slots=True) or"
        raise Refused(self._path, decorator, f"{sentence} @dataclass(frozen=True, slots=True), and nothing else")

    def _slots(self) -> list[str]:
        for statement in self.node.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=names)):
                    return [str(ast.literal_eval(it)) for it in names]
        raise Refused(self._path, self.node, f"the __slots__ of {self.name} are not a tuple of names")

    def _check(self, statement: ast.stmt) -> None:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=None) if name in self.fields and not self.is_dataclass:
                pass
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Assign(targets=[ast.Name(id="__slots__")]) if not self.is_dataclass:
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) if not name.startswith("__") or name == "__hash__":
                pass
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if self.is_dataclass:
                if any(it in ast.unparse(annotation) for it in ("ClassVar", "InitVar", "KW_ONLY")):
                    raise Refused(self._path, statement, f"{name} of {self.name} is not a field")
                self._check_field(statement)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self._check_method(statement)
            case _:
                what = ast.unparse(statement).partition("\n")[0]
                raise Refused(self._path, statement, f"{self.name} has a statement that a struct cannot have: {what}")

    def _check_field(self, field: ast.AnnAssign) -> None:
        match field.value:
            case ast.Call(func=ast.Name(id="field"), args=[], keywords=keywords):
                unknown = sorted({it.arg or "**" for it in keywords} - _FIELD_OPTIONS)
                if unknown:
                    raise Refused(self._path, field, f"field() of {self.name} has {', '.join(unknown)}")
            case ast.Call(func=ast.Attribute(attr="field")):
                raise Refused(self._path, field, "import field by its name, so that its options are understood")

    def _check_method(self, method: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        name = method.name
        if name.startswith("__") and (not name.endswith("__") or name not in _SAME_SPECIAL):
            raise Refused(self._path, method, f"{self.name}.{name} has another meaning in a struct")
        if name in self.methods:
            if method is not self.methods[name]:
                raise Refused(self._path, method, f"{self.name}.{name} has several definitions")
            if [it.arg for it in method.args.args][:1] != ["self"]:
                raise Refused(self._path, method, f"the first parameter of {self.name}.{name} is not self")
        known = {id(call.func) for call, _, _ in _set_in_frozen(method)}
        for node in ast.walk(method):
            if isinstance(node, ast.Attribute) and node.attr == "__setattr__" and id(node) not in known:
                raise Refused(self._path, node, f"{ast.unparse(node)} does not reach the fields of {self.name}")

    def edit(self, edits: Edits) -> None:
        for interface in reversed(self._interfaces):
            edits.replace(interface, "")
        for method in methods_of(self.node).values():
            if self.base is not None:
                for call, function in reversed(list(_calls_of_super(method))):
                    edits.insert_argument(function, "self, " if call.args or call.keywords else "self")
                    edits.replace(function, f"{ast.unparse(self.base)}.{function.attr}")
            for call, name, value in _set_in_frozen(method):
                edits.replace(call, f"self.{name} = (", before=value)
        for decorator in self.node.decorator_list:
            edits.replace(decorator, f"dataclass({'frozen=True, ' * self.is_frozen}repr=False)")
        if self.is_dataclass and "__repr__" not in methods_of(self.node):
            shown = ", ".join(f"{name}={{self.{name}!r}}" for name in self._shown())
            edits.append(self.node, f'    def __repr__(self): return f"{self.name}({shown})"')

    def _shown(self) -> Iterator[str]:
        for field in filter(_is_field, self.node.body):
            options = {it.arg: it.value for it in getattr(field.value, "keywords", ())} if _is_call(field) else {}
            if ast.unparse(options.get("repr", ast.Constant(True))) != "False":
                yield field.target.id

    def annotations(self) -> dict[str, ast.expr | None]:
        """The annotations of the fields, wherever they are, and types inferred from `__init__`."""
        found: dict[str, ast.expr | None] = {it.target.id: it.annotation for it in self.node.body if _is_field(it)}
        for function in (it for it in self.node.body if isinstance(it, ast.FunctionDef)):
            parameters = {it.arg: it.annotation for it in (*function.args.args, *function.args.kwonlyargs)}
            for node in ast.walk(function):
                match node:
                    case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                        found[name] = node.annotation
                    case ast.Assign(targets=targets, value=value) if function.name == "__init__":
                        for target in targets:
                            match target:
                                case ast.Attribute(value=ast.Name(id="self"), attr=name):
                                    found.setdefault(name, _made(value, parameters))
        return found


class _Field(ast.AnnAssign):
    """A statement that defines a field of a dataclass."""

    target: ast.Name


def _is_field(statement: ast.stmt) -> TypeGuard[_Field]:
    return isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)


def _is_call(field: _Field) -> bool:
    return isinstance(field.value, ast.Call) and ast.unparse(field.value.func) == "field"


def is_struct(node: ast.ClassDef) -> bool:
    """Whether a class has known fields and no base other than an interface. Other classes stay Python classes."""
    if node.keywords or any(ast.unparse(it) not in _INTERFACES for it in node.bases):
        return False
    return _has_slots(node) or any("slots" in ast.unparse(it) for it in node.decorator_list)


def base_of(node: ast.ClassDef) -> ast.expr | None:
    """The only base of a class with `__slots__`. The class becomes a struct if that is one."""
    is_plain = not node.keywords and not node.decorator_list and len(node.bases) == 1
    return node.bases[0] if is_plain and _has_slots(node) else None


def _has_slots(node: ast.ClassDef) -> bool:
    return any(it.id == "__slots__" for statement in node.body for it in _assigned(statement))


def _assigned(statement: ast.stmt) -> Iterator[ast.Name]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    yield from (it for it in targets if isinstance(it, ast.Name))


def _set_in_frozen(method: ast.AST) -> Iterator[tuple[ast.Call, str, ast.expr]]:
    """Yield the statements `object.__setattr__(self, "name", value)`, which a struct's own methods do not need."""
    for statement in ast.walk(method):
        match statement:
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id="object"), attr="__setattr__"),
                    args=[ast.Name(id="self"), ast.Constant(value=str(name)), value],
                    keywords=[],
                ) as call
            ):
                yield call, name, value


def _calls_of_super(method: ast.AST) -> Iterator[tuple[ast.Call, ast.Attribute]]:
    """Yield the calls `super().name(...)`, and what they call, from left to right."""
    for node in ast.walk(method):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[])) as function):
                yield node, function


def methods_of(node: ast.ClassDef) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {it.name: it for it in node.body if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)}


def is_direct(node: ast.FunctionDef) -> bool:
    """Whether Cython can call the function like a C function: plain parameters, no decorator, no inner scope."""
    arguments = node.args
    is_plain = not (arguments.posonlyargs or arguments.kwonlyargs or arguments.vararg or arguments.kwarg)
    is_special = node.name.startswith("__") or bool(node.decorator_list)
    inside = (it for it in ast.walk(node) if it is not node)
    return is_plain and not is_special and not any(isinstance(it, _INDIRECT) for it in inside)


def _made(value: ast.expr, parameters: dict[str, ast.expr | None]) -> ast.expr | None:
    """Return the type of an expression, if it is obvious."""
    match value:
        case ast.Name(id=name):
            return parameters.get(name)
        case ast.Call(func=ast.Name() as maker):
            return maker
        case ast.Constant(value=bytes()):
            return ast.Name("bytes")
    return None
