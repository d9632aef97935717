"""Images for the nodes, without a registry: Go programs become images of one layer, Dockerfiles are built."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.cluster.tools import BIN, CACHE
from tests.image.buildah import ROOT, Buildah

PYWAYPOINT = os.environ.get("PYWAYPOINT_IMAGE", "localhost/pywaypoint:cluster")
BOOKINFO = {"details": ("v1",), "productpage": ("v1",), "ratings": ("v1",), "reviews": ("v1", "v2", "v3")}
"""The tags of each service. All versions are one program."""


def of_program(reference: str, program: str, archive: Path, *, command: tuple[str, ...] = ()) -> Path:
    """An image that holds one static program of the cluster's tools, as `/PROGRAM`."""
    return of_files(reference, {program: BIN / program}, archive, command=(f"/{program}", *command))


def of_files(reference: str, files: Mapping[str, Path], archive: Path, *, command: tuple[str, ...]) -> Path:
    """An image that holds static programs, and files for them, in `/`."""
    layer = _tar({name: path.read_bytes() for name, path in files.items()}, mode=0o755)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": command, "Env": ["PATH=/"], "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
        }
    ).encode()
    names = f"{_digest(config)}.json", f"{_digest(layer)}.tar"
    manifest = json.dumps([{"Config": names[0], "RepoTags": [reference], "Layers": [names[1]]}]).encode()
    archive.write_bytes(_tar({names[0]: config, names[1]: layer, "manifest.json": manifest}, mode=0o644))
    return archive


def of_checkout(folder: Path, *, twin: bool = True) -> Iterator[Path]:
    """Archives of the project's own image and of Bookinfo's, as their Dockerfiles make them."""
    buildah = Buildah(CACHE / "buildah")
    build_base = buildah.import_base("build-base")
    arguments = {
        "BASE": buildah.import_base("base"),
        "BUILD_BASE": build_base,
        "COMMIT": _commit(),
        "TWIN": str(int(twin)),
    }
    buildah.build(PYWAYPOINT, arguments)
    yield _archive(buildah, PYWAYPOINT, folder / "pywaypoint.tar")
    for service, versions in BOOKINFO.items():
        names = [f"docker.io/pywaypoint/bookinfo-{service}:{it}" for it in versions]
        buildah.build(names[0], {"BASE": build_base, "SERVICE": service}, ROOT / "examples" / "bookinfo")
        for name in names:
            buildah("tag", names[0], name)
            yield _archive(buildah, name, folder / "bookinfo.tar")


def _archive(buildah: Buildah, name: str, archive: Path) -> Path:
    archive.unlink(missing_ok=True)
    buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")
    return archive


def _commit() -> str:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
