"""The code generated from our .proto files is up to date: `make proto`."""

from importlib.resources import files
from pathlib import Path

import pytest
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path.relative_to(ROOT) for it in ("l4", "waypoint") for path in ROOT.glob(f"{it}/_proto/*.proto"))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_generated_code_is_current(tmp_path: Path, source: Path) -> None:
    include = str(files("grpc_tools") / "_proto")
    protoc.main(["", f"-I{ROOT}", f"-I{include}", f"--python_out={tmp_path}", str(ROOT / source)])
    name = source.with_name(f"{source.stem}_pb2.py")

    assert descriptor((tmp_path / name).read_text()) == descriptor((ROOT / name).read_text())


def descriptor(code: str) -> str:
    """The messages themselves; what stands around them changes with the compiler's version."""
    return next(line for line in code.splitlines() if line.startswith("DESCRIPTOR = "))
