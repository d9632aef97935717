"""The contract about circles of imports, tried on small packages that have one.

A circle counts even if it is never imported in full: if an import is behind `TYPE_CHECKING` or inside a function, the
two modules still cannot be understood separately.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CONTRACT = "acyclic_siblings"

TREE = {"chain/__init__.py": "", "chain/upper.py": "from chain import lower\n", "chain/lower.py": ""}
PLAIN = TREE | {"chain/lower.py": "import chain.upper\n"}
TYPES_ONLY = TREE | {"chain/lower.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import chain.upper\n"}
IN_A_FUNCTION = TREE | {"chain/lower.py": "def find():\n    from chain import upper\n"}
OF_THREE = TREE | {"chain/lower.py": "import chain.third\n", "chain/third.py": "import chain.upper\n"}
OF_PACKAGES = {
    "chain/__init__.py": "",
    "chain/left/__init__.py": "",
    "chain/left/one.py": "import chain.right.one\n",
    "chain/left/two.py": "",
    "chain/right/__init__.py": "",
    "chain/right/one.py": "",
    "chain/right/two.py": "import chain.left.two\n",
}
BELOW = {f"chain/{path}": text.replace("chain", "chain.chain") for path, text in PLAIN.items()} | {
    "chain/__init__.py": ""
}


def test_a_tree_without_circles_passes(tmp_path: Path) -> None:
    assert is_kept(TREE, tmp_path)


@pytest.mark.parametrize("tree", [PLAIN, TYPES_ONLY, IN_A_FUNCTION, OF_THREE, OF_PACKAGES, BELOW])
def test_a_circle_fails(tree: dict[str, str], tmp_path: Path) -> None:
    assert not is_kept(tree, tmp_path)


def test_the_contract_is_for_the_whole_product_and_leaves_nothing_out() -> None:
    linter = configuration()
    (contract,) = [it for it in linter["contracts"] if it["type"] == CONTRACT]

    assert contract["ancestors"] == linter["root_packages"]
    assert not contract.keys() - {"name", "type", "ancestors"}


def is_kept(tree: dict[str, str], folder: Path) -> bool:
    """What our own contract says of another tree. In a process of its own: the linter turns off all loggers."""
    for path, text in tree.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    config = folder / ".importlinter"
    typed = configuration().get("exclude_type_checking_imports", False)
    config.write_text(
        f"[importlinter]\nroot_package = chain\nexclude_type_checking_imports = {typed}\n"
        f"[importlinter:contract:1]\nname = circles\ntype = {CONTRACT}\nancestors = chain\n"
    )
    command = [Path(sys.executable).with_name("lint-imports"), "--config", config, "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60).stdout
    assert "Contracts: " in said
    return "Contracts: 1 kept, 0 broken." in said


def configuration() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return dict(tomllib.load(file)["tool"]["importlinter"])
