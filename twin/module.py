"""A source module in its compiled form."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator

from twin.edits import Edits
from twin.refused import Refused
from twin.struct import Struct, base_of, is_direct, is_struct, methods_of

_BUILTIN = {"bytes", "list", "dict"}


class Module:
    """A hot module in its compiled form: `source` and `declarations`."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self._source = source
        self.name = path.removesuffix(".py").replace("/", ".")
        self.tree = ast.parse(source, path)
        self.classes = [it for it in ast.walk(self.tree) if isinstance(it, ast.ClassDef)]
        bindings = list(_bindings(self.tree.body))
        often = Counter(name for name, _ in bindings)
        self._bound = set(often)
        self._names = {name: value for name, value in bindings if often[name] == 1}
        self.functions = {
            node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef) and is_direct(node)
        }
        self.structs = {
            it.name: Struct(path, it) for it in self.tree.body if isinstance(it, ast.ClassDef) and is_struct(it)
        }
        self._often = often
        self._check()
        self.source = self._edited()

    def adopt(self, modules: dict[str, "Module"]) -> bool:
        """Let classes that derive from a struct be structs. Returns whether there were any."""
        found = [
            Struct(self.path, it, base)
            for it in self.tree.body
            if isinstance(it, ast.ClassDef) and it.name not in self.structs and (base := base_of(it))
            if self.find(base, modules)[0]
        ]
        if found:
            self.structs |= {it.name: it for it in found}
            self._check()
            self.source = self._edited()
        return bool(found)

    def _edited(self) -> str:
        edits = Edits(self.path, self._source)
        for struct in self.structs.values():
            struct.edit(edits)
        return edits.text

    def _check(self) -> None:
        structs = {id(it.node) for it in self.structs.values()}
        for node in ast.walk(self.tree):
            match node:
                case ast.Global():
                    raise Refused(self.path, node, "a function assigns to this global; keep the value in an object")
                case ast.ImportFrom(names=[ast.alias(name="*")]):
                    raise Refused(self.path, node, "import * hides what names mean; import each by its name")
                case ast.ImportFrom(module="dataclasses", names=names) if any(it.asname for it in names):
                    raise Refused(self.path, node, "import names from dataclasses without renaming them")
                case ast.ClassDef(decorator_list=decorators) if id(node) not in structs and any(
                    "dataclass" in ast.unparse(it) for it in decorators
                ):
                    raise Refused(
                        self.path, node, f"dataclass {node.name} is not a struct; remove its bases and add slots=True"
                    )
        for name, node in (*self.functions.items(), *((it.name, it.node) for it in self.structs.values())):
            if self._often[name] > 1:
                raise Refused(self.path, node, f"{name} has several definitions in this module")

    def check_derived(self, modules: dict[str, "Module"]) -> None:
        """Raises Refused if a class lacks a method of the interface that its struct drops, or if an override has
        different default values: the compiled twin passes those of the overridden method."""
        for struct in self.structs.values():
            derived = list(self._derived(struct.name, modules))
            for missing in sorted(struct.lacks):
                if not derived or not all(missing in methods_of(it) for _, it in derived):
                    sentence = f"{struct.name} loses asyncio's interface, and has no {missing}(); define it"
                    raise Refused(self.path, struct.node, sentence)
            for path, node in derived:
                for name, method in struct.methods.items():
                    override = methods_of(node).get(name, method)
                    if ast.dump(ast.Tuple(override.args.defaults)) != ast.dump(ast.Tuple(method.args.defaults)):
                        sentence = f"{node.name}.{name} has other default values than {struct.name}.{name}"
                        raise Refused(path, override, sentence)

    def _derived(self, name: str, modules: dict[str, "Module"]) -> Iterator[tuple[str, ast.ClassDef]]:
        for module in modules.values():
            for node in module.classes:
                if any(module.find(base, modules) == (self.name, name) for base in node.bases):
                    yield module.path, node

    def declarations(self, modules: dict[str, "Module"]) -> str:
        """Return the module's `.pxd`: its structs and functions, with the types of fields, parameters and locals."""
        types = _Types(self, modules)
        blocks = [
            "\n    ".join((types.head(it), *(list(types.members(it)) or ["pass"]))) for it in self.structs.values()
        ]
        blocks += [types.function(node) for node in self.functions.values()]
        imported = (it for it in self._names.values() if isinstance(it, tuple) and it[0] in modules)
        called = {(origin, name) for origin, name in imported if name in modules[origin].functions}
        needed = sorted(types.needed | called)
        imports = [f"from {module} cimport {name}" for module, name in needed if module != self.name]
        forward = [f"cdef class {name}" for name in self.structs]
        return "\n".join(("cimport cython", *forward, *imports, *blocks, ""))

    def find(self, annotation: ast.expr | None, modules: dict[str, "Module"]) -> tuple[str, str]:
        """Return the module and the struct, or the builtin known to Cython, that an annotation names, optional or not.

        Everything else is `object`.
        """
        match annotation:
            case ast.Constant(value=str(text)):
                return self.find(ast.parse(text, mode="eval").body, modules)
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return self.find(left, modules)
            case ast.Subscript(value=ast.Name(id=name)) | ast.Name(id=name):
                pass
            case _:
                return "", "object"
        if name in self.structs:
            return self.name, name
        match self._names.get(name):
            case (origin, original) if origin in modules:
                return modules[origin].find(ast.Name(original), modules)
            case ast.expr() as alias:
                return self.find(alias, modules)
        return "", name if name in _BUILTIN and name not in self._bound else "object"


class _Types:
    """Translates one module's annotations for Cython; `needed` collects the structs that they name."""

    def __init__(self, module: Module, modules: dict[str, Module]) -> None:
        self._module = module
        self._modules = modules
        self.needed: set[tuple[str, str]] = set()

    def head(self, struct: Struct) -> str:
        base = f"({self._type(struct.base)})" if struct.base else ""
        return f"cdef class {struct.name}{base}:"

    def members(self, struct: Struct) -> Iterator[str]:
        annotations = struct.annotations()
        word = "readonly" if struct.is_frozen else "public"
        for name in struct.fields:
            yield f"cdef {word} {self._type(annotations.get(name))} {name}"
        for node in struct.methods.values():
            yield self.function(node, "\n    ")

    def function(self, node: ast.FunctionDef, separator: str = "\n") -> str:
        arguments = node.args.args
        first_optional = len(arguments) - len(node.args.defaults)
        parameters = [
            (it.arg if it.arg == "self" else f"{self._type(it.annotation)} {it.arg}")
            + ("=*" if number >= first_optional else "")
            for number, it in enumerate(arguments)
        ]
        declaration = f"cpdef {self._type(node.returns)} {node.name}({', '.join(parameters)})"
        annotated = (it for it in ast.walk(node) if isinstance(it, ast.AnnAssign) and isinstance(it.target, ast.Name))
        local = ", ".join(f"{ast.unparse(it.target)}={self._type(it.annotation)}" for it in annotated)
        return f"@cython.locals({local}){separator}{declaration}" if local else declaration

    def _type(self, annotation: ast.expr | None) -> str:
        module, name = self._module.find(annotation, self._modules)
        if module:
            self.needed.add((module, name))
        return name


def _bindings(statements: Iterable[ast.AST]) -> Iterator[tuple[str, ast.expr | tuple[str, str] | None]]:
    """Yield the names of the module's scope with their meaning, if known: an alias' value, or an import's origin."""
    for node in statements:
        match node:
            case ast.ImportFrom(module=str(origin), names=names):
                yield from ((it.asname or it.name, (origin, it.name)) for it in names)
            case ast.Import(names=names):
                yield from ((it.asname or it.name.partition(".")[0], None) for it in names)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, None
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, None
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pass
            case _:
                yield from _bindings(ast.iter_child_nodes(node))
