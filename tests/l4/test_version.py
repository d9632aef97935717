import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from l4 import version
from l4.version import RELEASE, of_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYWAYPOINT_COMMIT", raising=False)


def git(folder: Path, *args: str) -> str:
    person = {f"GIT_{who}_{what}": "somebody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **person}
    answer = subprocess.run(["git", *args], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text("one")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def test_a_checkout_names_its_commit(checkout: Path) -> None:
    assert of_folder(checkout) == f"{RELEASE}+g{git(checkout, 'rev-parse', '--short=12', 'HEAD')}"


def test_changed_files_show(checkout: Path) -> None:
    (checkout / "file").write_text("two")

    assert of_folder(checkout) == f"{RELEASE}+g{git(checkout, 'rev-parse', '--short=12', 'HEAD')}.dirty"


def test_the_tag_of_the_release_is_the_release_and_what_follows_is_not(checkout: Path) -> None:
    git(checkout, "tag", f"v{RELEASE}")
    assert of_folder(checkout) == RELEASE

    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "two")
    assert of_folder(checkout) == f"{RELEASE}+g{git(checkout, 'rev-parse', '--short=12', 'HEAD')}"


def test_another_projects_commit_is_not_ours(checkout: Path) -> None:
    unpacked = checkout / "unpacked"
    unpacked.mkdir()

    assert of_folder(unpacked) == RELEASE


def test_a_commit_may_be_told_where_there_is_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYWAYPOINT_COMMIT", "1A2B3C_dirty")

    assert of_folder(tmp_path) == f"{RELEASE}+g1a2b3c.dirty"


def test_without_the_git_program_there_is_still_a_version(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert of_folder(checkout) == RELEASE


def test_what_is_installed_has_the_version_of_the_release() -> None:
    assert version.installed().partition("+")[0] == RELEASE


def test_the_changelog_begins_with_this_release() -> None:
    headings = [it for it in (ROOT / "CHANGELOG.md").read_text().splitlines() if it.startswith("## ")]

    assert headings[0].split()[1] == RELEASE


def test_the_metadata_names_the_pythons_that_are_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (
        f"Programming Language :: Python :: {project['requires-python'].removeprefix('>=')}" in project["classifiers"]
    )
