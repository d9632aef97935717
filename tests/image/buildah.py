"""buildah, for `make image-test`: as root, without a container engine and without a registry of images.

The base images are root file systems made of Debian's packages. The wheels are fetched beforehand, by the hashes of the
lock, and the build inside gets them from a folder: it needs no network.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "image"
"""Root file systems and wheels stay from run to run."""

SUITE, PYTHON = "trixie", "3.13"
_PACKAGES = {
    "base": "python3,ca-certificates,nftables,iproute2",
    "build-base": "python3,python3-dev,python3-venv,gcc,libc6-dev,ca-certificates",
}
_STEP_SECONDS = 2700


@dataclass(frozen=True, slots=True)
class Buildah:
    """Keeps its images below a folder of its own."""

    folder: Path

    def __call__(self, *args: str, seconds: float = _STEP_SECONDS) -> str:
        return _run([*self.command, *args], seconds)

    @property
    def command(self) -> list[str]:
        folders = ("--root", str(self.folder / "images"), "--runroot", str(self.folder / "run"))
        return ["buildah", *folders, "--storage-driver", "vfs"]

    def import_base(self, name: str) -> str:
        """A base image of Debian's packages; its name."""
        container = self("from", "scratch").strip()
        self("add", "--quiet", container, str(_file_system(name)), "/")
        self("config", "--env", "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", container)
        self("commit", "--quiet", "--rm", container, f"localhost/{name}")
        return f"localhost/{name}"

    def build(self, name: str, arguments: Mapping[str, str], folder: Path = ROOT) -> None:
        """Builds the Dockerfile of a folder."""
        (self.folder / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheelhouse\n")
        volumes = (f"{_wheels()}:/wheelhouse:ro", f"{self.folder / 'pip.conf'}:/etc/pip.conf:ro")
        self(
            *("build", "--isolation", "chroot", "--quiet", "--tag", name),
            *(word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")),
            *(word for volume in volumes for word in ("--volume", volume)),
            str(folder),
        )

    def run_command(self, container: str, command: Sequence[str], *, mounted: Path | None = None) -> list[str]:
        """The command line that runs a command in a container, in the network of this machine."""
        volumes = ("--volume", f"{mounted}:{mounted}:ro") if mounted else ()
        return [*self.command, "run", "--isolation", "chroot", *volumes, container, "--", *command]


def missing_tools() -> str:
    """A sentence that says what is missing to build an image, and how to get it; empty if nothing is."""
    missing = [it for it in ("buildah", "mmdebstrap") if shutil.which(it) is None]
    if missing:
        return f"no {' and no '.join(missing)} here: apt-get install buildah mmdebstrap (Debian 12 or newer)"
    if os.geteuid() != 0:
        return "only root builds images here, without a container engine: run it as root, such as by sudo"
    return ""


def _file_system(name: str) -> Path:
    kept = KEPT / f"{SUITE}-{name}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".draft.tar")
        options = ("--mode=root", "--variant=minbase", f"--include={_PACKAGES[name]}")
        _run(["mmdebstrap", "--quiet", *options, SUITE, str(draft)], _STEP_SECONDS)
        draft.rename(kept)
    return kept


def _wheels() -> Path:
    """What the image installs, by the lock's hashes."""
    lock = KEPT / "image.lock"
    lock.write_text((ROOT / "requirements.lock").read_text().partition("# section: dev")[0])
    folder = KEPT / "wheels"
    shutil.rmtree(folder, ignore_errors=True)
    wanted = ("--only-binary=:all:", "--no-deps", "--python-version", PYTHON, "--require-hashes", "--requirement", lock)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run([*pip, "download", *map(str, wanted), "--dest", str(folder)], _STEP_SECONDS)
    return folder


def _run(command: Sequence[str], seconds: float) -> str:
    answer = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert answer.returncode == 0, f"{' '.join(command)}\n{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}"
    return answer.stdout
