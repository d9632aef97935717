"""The programs of the cluster: Debian's packages, and Go programs built from the modules that `tools/*/go.mod` pin.

What is built stays in a cache outside the checkout. A group is built again when its pins change.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.progress import step

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pywaypoint" / "cluster"
BIN = CACHE / "bin"
ECHO = CACHE / "echo"
"""Istio's echo: its programs are called `client` and `server`."""
_GO_MODULES = Path(__file__).parent / "tools"
_VERSION = "k8s.io/component-base/version"

PACKAGES = {
    "etcd": "etcd-server",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""The Debian package of each program."""


@dataclass(frozen=True, slots=True)
class Group:
    """Go programs of one `go.mod`: modules whose dependencies disagree can't share one."""

    name: str
    flags: tuple[str, ...] = ()
    linked: str = ""
    into: Path = BIN
    is_always_needed: bool = True
    seconds: int = 3600
    """What the build may take."""

    @property
    def folder(self) -> Path:
        return _GO_MODULES / self.name

    @property
    def pins(self) -> str:
        """A digest of what decides the programs."""
        files = [it for it in sorted(self.folder.iterdir()) if it.suffix in (".mod", ".sum", ".go")]
        said = b"".join(it.read_bytes() for it in files) + repr((self.flags, self.linked)).encode()
        return hashlib.sha256(said).hexdigest()

    @property
    def is_built(self) -> bool:
        stamp = CACHE / f"{self.name}.built"
        return stamp.exists() and stamp.read_text() == self.pins

    def build(self) -> None:
        flags = ["-ldflags", f"-s -w {self.linked}".strip(), *self.flags]
        environment = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(self.into), "GOFLAGS": "-buildvcs=false"}
        if any(self.folder.glob("*_test.go")):
            command = ["go", "test", "-c", "-o", f"{self.into}/", *flags, "."]
        else:
            what = "tool" if "\ntool" in (self.folder / "go.mod").read_text() else "."
            command = ["go", "install", *flags, what]
        run(command, at=self.folder, environment=environment, seconds=self.seconds)
        (CACHE / f"{self.name}.built").write_text(self.pins)


GROUPS = (
    Group("pause"),
    Group("containerd", ("-tags", "no_btrfs no_devmapper no_zfs")),
    Group("kubernetes", (), f"-X {_VERSION}.gitVersion=v1.36.3 -X {_VERSION}.gitMajor=1 -X {_VERSION}.gitMinor=36"),
    Group("coredns"),
    Group("gateway_api"),
    Group("echo", into=ECHO),
    Group("helm"),
    Group("metrics_server", is_always_needed=False),
    Group("istio", is_always_needed=False, seconds=600),
)


def lack() -> str:
    """What is missing here that can't be installed, in a sentence; empty if nothing is."""
    if os.geteuid() != 0:
        return "The cluster makes network namespaces and runs containers: run it as root, such as by sudo."
    if shutil.which("go") is None:
        return "The cluster's programs are built with Go: install Go 1.26 or newer (https://go.dev/dl)."
    if _missing() and shutil.which("apt-get") is None:
        return f"Missing here: {', '.join(_missing())}. Debian's packages of these names have the programs."
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        return "The cluster's nodes are network namespaces, which this process may not make: it needs CAP_SYS_ADMIN."
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "The cluster's kubelets need control groups, but /sys/fs/cgroup is read-only."
    return ""


def _missing() -> list[str]:
    return sorted({package for it, package in PACKAGES.items() if shutil.which(it) is None})


def install(*also: str) -> None:
    """Installs the packages that are missing, and builds what is not built yet: what every cluster needs, and the
    groups `also`.

    Raises:
        SystemExit: something is missing that can't be installed here; says what.
    """
    if sentence := lack():
        raise SystemExit(sentence)
    if missing := _missing():
        with step(f"install {', '.join(missing)}"):
            run(["apt-get", "update"])
            run(["apt-get", "install", "--yes", "--no-install-recommends", *missing])
    BIN.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        if (group.is_always_needed or group.name in also) and not group.is_built:
            with step(f"build {group.name}"):
                group.build()


def gateway_api_crds() -> Path:
    """The folder with the Gateway API's CRDs, of the experimental channel, which has all kinds."""
    return module_folder("gateway_api", "sigs.k8s.io/gateway-api") / "config" / "crd" / "experimental"


def module_folder(group: str, module: str) -> Path:
    """The folder with all files of a Go module that a group pins."""
    found = json.loads(run(["go", "mod", "download", "-json", module], at=_GO_MODULES / group))
    return Path(found["Dir"])


def run(
    command: Sequence[str], at: Path | None = None, environment: dict[str, str] | None = None, seconds: int = 3600
) -> str:
    """Runs a command to its end and gives its output; a failure shows what it said."""
    try:
        done = subprocess.run(
            command, cwd=at, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        said = f"did not end within {seconds} s. Go keeps what it has compiled: start it again to go on."
        raise SystemExit(f"{' '.join(map(str, command))} {said}") from None
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout
