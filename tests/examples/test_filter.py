"""The filter that docs/filters.md adds: its files and its three lines of registration, laid over a copy of the source,
make a waypoint that refuses bodies which are too long."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.aio import run
from tests.kit.mesh import manifests
from tests.kit.origin import answering, origin
from tests.kit.process import WaypointProcess, waypoint_process

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "filter"
PAGE = (ROOT / "docs" / "filters.md").read_text()
PACKAGES = ("policies", "l4", "waypoint")
_PLAIN = shutil.ignore_patterns("__pycache__", "*.so")  # what is compiled would hide what is added


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with the filter added, and the source itself as its only commit."""
    folder = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=_PLAIN)
    (folder / "deploy").mkdir()
    (folder / ".gitignore").write_text("__pycache__\n")
    _git(folder, "init", "--quiet")
    _git(folder, "add", "--all")
    _git(folder, "-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "-m", "source")
    _git(folder, "apply", str(EXAMPLE / "registration.diff"))
    for place in ("policies", "waypoint", "deploy"):
        shutil.copytree(EXAMPLE / place, folder / place, dirs_exist_ok=True)
    return folder


def _git(folder: Path, *args: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *args], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _path(tree: Path) -> str:
    """In place of this checkout."""
    return ":".join([str(tree), *(it for it in sys.path if it and Path(it).resolve() != ROOT)])


async def _post(it: WaypointProcess, framing: str, body: str) -> int:
    reader, writer = await it.open()
    writer.write(f"POST / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{framing}\r\n\r\n{body}".encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


def test_bodies_that_are_too_long_are_refused_by_a_real_waypoint(tree: Path, tmp_path: Path) -> None:
    async def scenario() -> tuple[list[int], str, dict[str, object]]:
        process = waypoint_process(
            tmp_path, more=(EXAMPLE / "policy.yaml",), prefix=("env", "-C", str(tree)), PYTHONPATH=_path(tree)
        )
        async with process as it, origin(it.pod, answering()) as seen:
            statuses = [
                await _post(it, "Content-Length: 5", "hello"),
                await _post(it, "Content-Length: 11", "hello world"),
                await _post(it, "Transfer-Encoding: chunked", "b\r\nhello world\r\n0\r\n\r\n"),
            ]
            assert seen.bodies == [b"hello"]
            dump = await it.config_dump()
            return statuses, await it.metrics(), dump["destinations"][it.authority]["routes"][0]

    statuses, metrics, rule = run(scenario())

    assert statuses == [200, 413, 413]
    assert 'pywaypoint_bodies_refused_total{policy="BodyLimitPolicy default/uploads"} 2' in metrics
    assert rule["body_limit"] == {"policy": "BodyLimitPolicy default/uploads", "max_bytes": 10}
    assert "request_body_too_long" in (tmp_path / "access.log").read_text()


def test_explain_asks_the_same_filter(tree: Path, tmp_path: Path) -> None:
    usual = manifests(waypoint="10.0.0.1", vip="10.0.0.2", pods={"app-1": "10.0.0.3"})
    (tmp_path / "mesh.yaml").write_text(usual)
    files = ["--resources", str(tmp_path / "mesh.yaml"), "--resources", str(EXAMPLE / "policy.yaml")]
    command = [sys.executable, "-m", "waypoint.cli", "explain", "--from", "default/client", "--to", "app:9080", *files]

    done = subprocess.run(
        command, cwd=tree, env={"PYTHONPATH": _path(tree)}, capture_output=True, text=True, check=False
    )

    assert "refuse bodies of more than 10 bytes (BodyLimitPolicy default/uploads)" in done.stdout, done.stderr


def test_the_page_says_which_files_change(tree: Path) -> None:
    _git(tree, "add", "--all", "--intent-to-add")

    stat = _git(tree, "diff", "--stat=100")

    assert _counts(stat) == _counts(PAGE), stat


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
def test_the_page_shows_what_is_in_the_files(code: str) -> None:
    assert code in (EXAMPLE / "waypoint/filters/body_limit.py").read_text()


def _counts(stat: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^ (\S+)\s+\|\s+(\d+)", stat, re.MULTILINE)}
