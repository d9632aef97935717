"""The lock contains all declared dependencies, in the section that needs them, and no index addresses."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
DECLARED = {
    "run": PYPROJECT["project"]["dependencies"],
    "build": PYPROJECT["build-system"]["requires"] + PYPROJECT["dependency-groups"]["twin"],
    **PYPROJECT["project"]["optional-dependencies"],
}
SECTIONS = dict(zip(*[iter(re.split(r"^# section: (\w+)$", LOCK, flags=re.MULTILINE)[1:])] * 2, strict=True))


def locked(section: str) -> dict[str, str]:
    """The versions in a section and in those above it, by package."""
    names = list(SECTIONS)
    text = "".join(SECTIONS[it] for it in names[: names.index(section) + 1])
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def test_each_reason_to_install_something_has_its_section() -> None:
    assert list(SECTIONS) == list(DECLARED)


@pytest.mark.parametrize("section", DECLARED)
def test_what_is_declared_is_locked_at_a_version_that_the_declaration_allows(section: str) -> None:
    versions = locked(section)

    for requirement in map(Requirement, DECLARED[section]):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, f"{requirement}: `make lock`"


def test_every_locked_package_has_hashes_and_no_address() -> None:
    blocks = re.findall(r"^[\w.-]+==.*(?:\n    .*)*", LOCK, re.MULTILINE)

    assert len(blocks) > 50
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", it) for it in blocks)
    assert "://" not in LOCK
    assert not re.search(r"^\s*-", re.sub(r"^    --hash=sha256:\S+", "", LOCK, flags=re.MULTILINE), re.MULTILINE)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_every_locked_package_is_wanted_by_cpython_of_every_version(version: str) -> None:
    environment = {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": "linux"}

    markers = [Marker(it) for it in re.findall(r"^[\w.-]+==[^\s;]+ ; ([^\\\n]*)", LOCK, re.MULTILINE)]

    left_out = [it for it in markers if not it.evaluate(environment) and "win32" not in str(it)]
    assert left_out == []
