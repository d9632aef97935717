"""Each place the twin is built from has the compilation and the sources that it asks for."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READ = "import pathlib, hatch_build, twin; print(len(twin.read(pathlib.Path())), twin.__file__)"


def assert_is_enough(folder: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", READ], cwd=folder, capture_output=True, text=True, timeout=50)

    assert answer.returncode == 0, answer.stderr
    number, _, file = answer.stdout.strip().partition(" ")
    assert int(number) > 30
    assert Path(file) == folder / "twin" / "__init__.py"


def test_the_image_copies_what_the_twin_is_built_from(tmp_path: Path) -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    for name in " ".join(copied).split():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)

    assert_is_enough(tmp_path)


@pytest.mark.timeout(200)
def test_the_source_distribution_has_what_the_twin_is_built_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170)
    assert answer.returncode == 0, answer.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")

    (folder,) = (it for it in tmp_path.iterdir() if it.is_dir())
    assert_is_enough(folder)
