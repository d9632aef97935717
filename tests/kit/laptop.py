"""`waypoint mesh up` as a process. Only one runs on a machine at a time, because its addresses are fixed."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 15.0

TOP = Path(__file__).parents[2]
_LOCK = Path(tempfile.gettempdir()) / "pywaypoint-laptop-mesh.lock"


@dataclass(frozen=True, slots=True)
class LaptopMesh:
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def said(self) -> str:
        """Standard error so far."""
        return (self.folder / "stderr").read_text()

    @property
    def addresses(self) -> dict[tuple[str, str], str]:
        """Return the printed addresses by the name and explanation of a line, such as `("metrics", "ztunnel")`."""
        lines = (self.folder / "stdout").read_text().splitlines()
        return {
            (name, explanation.strip()): address for name, address, explanation in (it.split(None, 2) for it in lines)
        }

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a `waypoint mesh` command while the mesh is up."""
        command = [sys.executable, "-m", "waypoint.cli", "mesh", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(self.folder))

    def shell(self, commands: str) -> str:
        """Return the output of shell commands that run beside the mesh, in a copy of the top folder of the repository,
        so that their files do not end up in the repository."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with tempfile.TemporaryDirectory() as top:
            for entry in TOP.iterdir():
                (Path(top) / entry.name).symlink_to(entry)
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands],
                cwd=top,
                env={**environment(self.folder), "PATH": path},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
            )
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def stop(self) -> int:
        """Press Ctrl-C. Returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def mesh_up(
    folder: Path, *args: str, program: Sequence[str] = (sys.executable, "-m", "waypoint.cli")
) -> Iterator[LaptopMesh]:
    """Yield a mesh whose programs are all ready. Its run directory is `run` in the folder."""
    command = [*program, "mesh", "up", "--run-directory", str(folder / "run"), *args]
    with (
        _LOCK.open("w") as lock,
        (folder / "stdout").open("wb") as stdout,
        (folder / "stderr").open("wb") as stderr,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment(folder)) as process:
            mesh = LaptopMesh(process, folder)
            try:
                _await_ready(mesh)
                yield mesh
            finally:
                if process.poll() is None:
                    mesh.stop()


def environment(folder: Path) -> dict[str, str]:
    """Return the environment in which commands find the mesh of this folder, and no other."""
    return {**os.environ, "XDG_RUNTIME_DIR": str(folder)}


def _await_ready(mesh: LaptopMesh) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "Ctrl-C stops everything" not in mesh.said:
        assert mesh.process.poll() is None, mesh.said
        assert time.monotonic() < deadline, mesh.said
        time.sleep(0.05)
