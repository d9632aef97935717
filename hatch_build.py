"""Builds the compiled twin: with PYWAYPOINT_TWIN=1 the hot modules are also compiled, from the very same source.

The Python files stay in the wheel; the interpreter prefers the extension beside each. A class that lists its attributes
in `__slots__` and has no base becomes a C struct, which is where most of the gain is; nothing else is declared, so the
twin can't drift. `make twin` builds it and runs the tests over it; without a compiler nothing is lost but speed.
"""

import ast
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

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
    "l4/telemetry/access_log.py",
    "l4/telemetry/metrics.py",
    "policies/route.py",
    "waypoint/exchange.py",
    "waypoint/http/client.py",
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
    "waypoint/upstream/cluster.py",
)


_INTERFACE_BASE = re.compile(r"^class (\w+)\(asyncio\.(?:Protocol|Transport)\):", re.MULTILINE)
"""asyncio's interfaces hold no code, and a struct can't inherit from them: the twin's classes go without."""


class TwinHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    @property
    def is_wanted(self) -> bool:
        return os.environ.get("PYWAYPOINT_TWIN") == "1" and self.target_name == "wheel"

    def dependencies(self) -> list[str]:
        return ["cython>=3.1", "setuptools>=75"] if self.is_wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self.is_wanted or version == "editable":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="pywaypoint-twin-"))
        for extension in compile_into(self._folder, Path(self.root)):
            build_data["force_include"][str(extension)] = str(extension.relative_to(self._folder / "built"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.is_wanted and version != "editable":
            shutil.rmtree(self._folder)


def compile_into(folder: Path, root: Path) -> list[Path]:
    """Compile copies of the hot modules; the extensions, below `folder/built` as below `root`."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    extensions = []
    for name in HOT:
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        source = _INTERFACE_BASE.sub(r"class \1:", (root / name).read_text())
        copy.write_text(source)
        copy.with_suffix(".pxd").write_text(declarations(source))
        extensions.append(
            Extension(name.removesuffix(".py").replace("/", "."), [str(copy)], extra_compile_args=["-O3"])
        )
    for package in {parent for name in HOT for parent in Path(name).parents} - {Path()}:
        (folder / "source" / package / "__init__.py").touch()
    modules = cythonize(
        extensions,
        include_path=[str(folder / "source")],
        compiler_directives={"language_level": 3, "annotation_typing": False},
        nthreads=os.cpu_count() or 1,
        quiet=True,
    )
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(folder / "built"), str(folder / "temporary")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()
    return sorted((folder / "built").rglob("*.so"))


def declarations(source: str) -> str:
    """The `.pxd` of a module: a struct for each class that has `__slots__` and no base."""
    lines = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and not node.bases and (slots := _slots(node)):
            lines += [f"cdef class {node.name}:", *(f"    cdef public object {name}" for name in slots)]
    return "\n".join(lines) + "\n"


def _slots(node: ast.ClassDef) -> list[str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__slots__":
            return list(ast.literal_eval(statement.value))
    return []
