"""Build hooks of the wheel: the version, the folder that contains its packages, and with PYWAYPOINT_TWIN=1 the compiled
twin: the hot modules, also compiled from the same source (`twin`).

The Python files stay in the wheel, and the interpreter prefers the extension beside each. `make test-twin` builds the
twin and runs the tests with it. Without a compiler, only speed is lost.
"""

import os
import runpy
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


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
        sys.path.insert(0, self.root)  # which a builder need not have there
        from twin import compile_into

        self._folder = Path(tempfile.mkdtemp(prefix="pywaypoint-twin-"))
        for extension in compile_into(self._folder, Path(self.root)):
            inside = extension.relative_to(self._folder / "built")
            build_data["force_include"][str(extension)] = str("pywaypoint" / inside)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.is_wanted and version != "editable":
            shutil.rmtree(self._folder)
