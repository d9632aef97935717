"""What the wheel is made of: the version, the folder that its packages lie in, and with PYWAYPOINT_TWIN=1 the compiled
twin, for which the hot modules are also compiled, from the very same source.

The Python files stay in the wheel; the interpreter prefers the extension beside each. What Cython must know to be quick
is read from the source's own annotations (`Module`), so that the twin can't drift: nothing is declared twice.
`make test-twin` builds it and runs the tests over it; without a compiler nothing is lost but speed.
"""

import ast
import os
import re
import runpy
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

HOT = (
    "l4/http2/_engine.py",
    "l4/http2/events.py",
    "l4/http2/flood.py",
    "l4/http2/frames.py",
    "l4/http2/heads.py",
    "l4/http2/hpack_decoder.py",
    "l4/http2/hpack_encoder.py",
    "l4/http2/huffman.py",
    "l4/hbone/driver.py",
    "l4/hbone/tunnel.py",
    "l4/net/deadlines.py",
    "l4/telemetry/access_log.py",
    "l4/telemetry/metrics.py",
    "policies/attributes.py",
    "policies/balancing/endpoint.py",
    "policies/circuit.py",
    "policies/filters.py",
    "policies/last_look.py",
    "policies/route.py",
    "policies/timeout.py",
    "waypoint/config/snapshot.py",
    "waypoint/data_path.py",
    "waypoint/decide.py",
    "waypoint/exchange.py",
    "waypoint/http/client.py",
    "waypoint/http/events.py",
    "waypoint/http/framing.py",
    "waypoint/http/h1.py",
    "waypoint/http/h2.py",
    "waypoint/http/h2_client.py",
    "waypoint/http/h2_connection.py",
    "waypoint/http/h2_server.py",
    "waypoint/http/h1_format.py",
    "waypoint/http/hygiene.py",
    "waypoint/http/server.py",
    "waypoint/telemetry.py",
    "waypoint/upstream/attempts.py",
    "waypoint/upstream/balancer.py",
    "waypoint/upstream/cluster.py",
    "waypoint/upstream/endpoint.py",
)

_INTERFACE_BASE = re.compile(r"^class (\w+)\(asyncio\.(?:Protocol|Transport)\):", re.MULTILINE)
"""asyncio's interfaces hold no code, and a struct can't inherit from them: the twin's classes go without."""

_SLOTS_OF_DATACLASS = re.compile(r"^@dataclass\((.*)slots=True\)$", re.MULTILINE)
"""A struct has nothing but its fields anyway, and Cython's dataclasses don't know the word. Their `__repr__` works in
one thread only, so they get another one."""

_BUILTIN = {"bytes", "list", "dict"}

_FLAGS = ["-O3", "-Werror=incompatible-pointer-types"]
"""Of another module's method that is passed on as a value, Cython makes such a pointer: what does that can't be hot."""


class _Field(ast.AnnAssign):
    """A statement that gives a dataclass a field."""

    target: ast.Name


class VersionHook(MetadataHookInterface):
    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        metadata["version"] = runpy.run_path(str(root / "l4" / "version.py"))["of_folder"](root)


class WheelHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    @property
    def is_wanted(self) -> bool:
        return os.environ.get("PYWAYPOINT_TWIN") == "1" and self.target_name == "wheel"

    def dependencies(self) -> list[str]:
        pyproject = tomllib.loads((Path(self.root) / "pyproject.toml").read_text())
        return list(pyproject["dependency-groups"]["twin"]) if self.is_wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        build_data["force_include"]["pywaypoint.py"] = "pywaypoint/__init__.py"
        if not self.is_wanted:
            return
        self._folder = Path(tempfile.mkdtemp(prefix="pywaypoint-twin-"))
        for extension in compile_into(self._folder, Path(self.root)):
            inside = extension.relative_to(self._folder / "built")
            build_data["force_include"][str(extension)] = str("pywaypoint" / inside)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.is_wanted and version != "editable":
            shutil.rmtree(self._folder)


def compile_into(folder: Path, root: Path) -> list[Path]:
    """Compile copies of the hot modules; the extensions, below `folder/built` as below `root`."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    modules = {module.name: module for name in HOT for module in [Module(name, (root / name).read_text())]}
    extensions = []
    for module in modules.values():
        copy = folder / "source" / module.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(module.source)
        copy.with_suffix(".pxd").write_text(module.declarations(modules))
        extensions.append(Extension(module.name, [str(copy)], extra_compile_args=_FLAGS))
    for package in {parent for name in HOT for parent in Path(name).parents} - {Path()}:
        (folder / "source" / package / "__init__.py").touch()
    built = cythonize(
        extensions,
        include_path=[str(folder / "source")],
        compiler_directives={"language_level": 3, "annotation_typing": False},
        nthreads=os.cpu_count() or 1,
        quiet=True,
    )
    command = Distribution({"ext_modules": built}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder / "built"), str(folder / "temporary")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()
    return sorted((folder / "built").rglob("*.so"))


class Module:
    """A hot module, as it is compiled. Its structs are the classes without a base that have `__slots__`, written by
    hand or by dataclasses."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.name = path.removesuffix(".py").replace("/", ".")
        plain = _INTERFACE_BASE.sub(r"class \1:", source)
        self._body = ast.parse(plain).body
        classes = [node for node in self._body if isinstance(node, ast.ClassDef)]
        self.structs = {node.name: node for node in classes if not node.bases and _fields(node)}
        lines = [*_SLOTS_OF_DATACLASS.sub(r"@dataclass(\1repr=False)", plain).splitlines(), ""]
        for node in self.structs.values():
            if _is_dataclass(node) and not any(getattr(it, "name", "") == "__repr__" for it in node.body):
                after = node.end_lineno or 0
                assert not lines[after], f"{path}:{after + 1} is no empty line: {node.name} gets its __repr__ there"
                lines[after] = _repr(node)  # so that no other line moves
        self.source = "\n".join(lines) + "\n"
        self.functions = {
            node.name: node for node in self._body if isinstance(node, ast.FunctionDef) and _is_direct(node)
        }
        self._names = dict(self._named())

    def _named(self) -> Iterator[tuple[str, ast.expr | tuple[str, str]]]:
        """What a name at the module's level stands for: an alias' value, or where it is imported from."""
        for node in (it for statement in self._body for it in (statement, *getattr(statement, "body", ()))):
            match node:
                case ast.ImportFrom(module=str(origin), names=names):
                    yield from ((alias.asname or alias.name, (origin, alias.name)) for alias in names)
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if node.col_offset == 0:
                    yield name, value

    def declarations(self, modules: dict[str, "Module"]) -> str:
        """The module's `.pxd`: its structs and functions, with the types of fields, parameters and locals."""
        types = _Types(self, modules)
        blocks = ["\n    ".join((f"cdef class {node.name}:", *types.members(node))) for node in self.structs.values()]
        blocks += [types.function(node) for node in self.functions.values()]
        imported = (it for it in self._names.values() if isinstance(it, tuple) and it[0] in modules)
        called = {(origin, name) for origin, name in imported if name in modules[origin].functions}
        needed = sorted(types.needed | called)
        imports = [f"from {module} cimport {name}" for module, name in needed if module != self.name]
        forward = [f"cdef class {name}" for name in self.structs]
        return "\n".join(("cimport cython", *forward, *imports, *blocks, ""))

    def type(self, annotation: ast.expr | None, modules: dict[str, "Module"]) -> tuple[str, str]:
        """The struct that an annotation means, or a builtin that Cython knows, whether or not it may be None, and the
        module it is from; everything else is an object."""
        match annotation:
            case ast.Constant(value=str(text)):
                return self.type(ast.parse(text, mode="eval").body, modules)
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return self.type(left, modules)
            case ast.Subscript(value=ast.Name(id=name)) | ast.Name(id=name):
                pass
            case _:
                return "", "object"
        if name in self.structs:
            return self.name, name
        match self._names.get(name):
            case (origin, original) if origin in modules:
                return modules[origin].type(ast.Name(original), modules)
            case ast.expr() as alias:
                return self.type(alias, modules)
        return "", name if name in _BUILTIN else "object"


class _Types:
    """What Cython is told of one module's annotations; `needed` collects the structs that they name."""

    def __init__(self, module: Module, modules: dict[str, Module]) -> None:
        self._module = module
        self._modules = modules
        self.needed: set[tuple[str, str]] = set()

    def members(self, struct: ast.ClassDef) -> Iterator[str]:
        annotations = _annotated(struct)
        word = "readonly" if any("frozen=True" in ast.unparse(it) for it in struct.decorator_list) else "public"
        for name in _fields(struct):
            yield f"cdef {word} {self._type(annotations.get(name))} {name}"
        for node in struct.body:
            if isinstance(node, ast.FunctionDef) and _is_direct(node):
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
        module, name = self._module.type(annotation, self._modules)
        if module:
            self.needed.add((module, name))
        return name


def _annotated(struct: ast.ClassDef) -> dict[str, ast.expr | None]:
    """The annotations of a class' fields, given anywhere, and what `__init__` makes them without one."""
    found: dict[str, ast.expr | None] = {it.target.id: it.annotation for it in struct.body if _is_field(it)}
    for function in (it for it in struct.body if isinstance(it, ast.FunctionDef)):
        parameters = {it.arg: it.annotation for it in (*function.args.args, *function.args.kwonlyargs)}
        for node in ast.walk(function):
            match node:
                case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), annotation=annotation):
                    found[name] = annotation
                case ast.Assign(targets=targets, value=value) if function.name == "__init__":
                    for target in (it for it in targets if isinstance(it, ast.Attribute)):
                        found.setdefault(target.attr, _made(value, parameters))
    return found


def _made(value: ast.expr, parameters: dict[str, ast.expr | None]) -> ast.expr | None:
    """What is known of an expression without looking further."""
    match value:
        case ast.Name(id=name):
            return parameters.get(name)
        case ast.Call(func=ast.Name() as maker):
            return maker
        case ast.Constant(value=bytes()):
            return ast.Name("bytes")
    return None


def _fields(struct: ast.ClassDef) -> list[str]:
    for statement in struct.body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__slots__":
            return list(ast.literal_eval(statement.value))
    return [it.target.id for it in struct.body if _is_field(it)] if _is_dataclass(struct) else []


def _is_field(statement: ast.stmt) -> TypeGuard[_Field]:
    return isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)


def _is_dataclass(struct: ast.ClassDef) -> bool:
    decorators = map(ast.unparse, struct.decorator_list)
    return any(it.startswith("dataclass(") and "slots=True" in it for it in decorators)


def _repr(struct: ast.ClassDef) -> str:
    fields = ", ".join(f"{name}={{self.{name}!r}}" for name in _fields(struct))
    return f'    def __repr__(self): return f"{struct.name}({fields})"'


_INDIRECT = (ast.Lambda, ast.GeneratorExp, ast.Yield, ast.YieldFrom, ast.FunctionDef, ast.AsyncFunctionDef)


def _is_direct(node: ast.FunctionDef) -> bool:
    """Whether Cython can call it as C does: plain parameters, no decorator, and no function inside."""
    arguments = node.args
    is_plain = not (arguments.posonlyargs or arguments.kwonlyargs or arguments.vararg or arguments.kwarg)
    is_special = node.name.startswith("__") or bool(node.decorator_list)
    inside = (it for it in ast.walk(node) if it is not node)
    return is_plain and not is_special and not any(isinstance(it, _INDIRECT) for it in inside)
