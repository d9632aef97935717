"""The image is really built, and both of its programs run from it. Takes minutes: `make image-test`."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.buildah import ROOT, Buildah, missing_tools
from tests.kit.certificates import MeshPki
from tests.kit.mesh import address, manifests

pytestmark = [pytest.mark.image, pytest.mark.timeout(3600)]

COMMIT = "1a2b3c4d5e6f"
IMAGE = "localhost/pywaypoint"
USER = 65532
START_SECONDS = 60.0
STOP_SECONDS = 30.0

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: client, annotations: {{ambient.istio.io/redirection: enabled}}}}
spec: {{nodeName: here, serviceAccountName: client}}
status: {{podIP: {ip}, phase: Running}}
"""


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    if missing := missing_tools():
        pytest.fail(missing, pytrace=False)
    made = Buildah(tmp_path_factory.mktemp("buildah"))
    bases = {"BASE": made.import_base("base"), "BUILD_BASE": made.import_base("build-base")}
    made.build(IMAGE, {**bases, "COMMIT": COMMIT, "TWIN": os.environ.get("TWIN", "1")})
    return made


@pytest.fixture(scope="module")
def container(buildah: Buildah) -> Iterator[str]:
    name = buildah("from", IMAGE).strip()
    yield name
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A folder that the image's user can reach."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    return tmp_path


def run(buildah: Buildah, container: str, *command: str) -> str:
    answer = subprocess.run(buildah.run_command(container, command), capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("program", ["waypoint", "ztunnel"])
def test_a_program_starts_and_names_the_commit_of_the_image(buildah: Buildah, container: str, program: str) -> None:
    said = run(buildah, container, program, "--version")

    assert said.startswith(f"{program} 0.")
    assert f"+g{COMMIT}, Python 3." in said


def test_what_the_image_does_by_itself_is_to_explain_the_waypoint(buildah: Buildah, container: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]

    said = run(buildah, container, *config["Entrypoint"], *config["Cmd"])

    assert said.startswith("Usage: waypoint")
    assert config["User"] == f"{USER}:{USER}"


def test_the_image_runs_as_a_user_who_may_change_nothing_in_it(buildah: Buildah, container: str) -> None:
    assert run(buildah, container, "sh", "-c", "id -u; id -g").split() == [str(USER), str(USER)]
    assert run(buildah, container, "find", "/opt/pywaypoint", "-writable", "-not", "-type", "l") == ""


def test_the_image_has_what_the_lock_says_and_nothing_that_builds(buildah: Buildah, container: str) -> None:
    code = "from importlib.metadata import distributions as d; print(*{f'{i.name}=={i.version}'.lower() for i in d()})"
    lock = (ROOT / "requirements.lock").read_text().partition("# section: build")[0]

    installed = run(buildah, container, "/opt/pywaypoint/bin/python3", "-c", code).replace("_", "-").split()

    ours, foreign = ({it for it in installed if it.startswith("pywaypoint==") == is_ours} for is_ours in (True, False))
    assert len(ours) == 1
    assert len(foreign) > 20
    assert {it for it in foreign if f"\n{it} " not in lock} == set()


def test_the_image_has_an_openssl_that_encrypts_fast(buildah: Buildah, container: str) -> None:
    code = "import ssl; print(*ssl.OPENSSL_VERSION_INFO[:2])"

    found = run(buildah, container, "/opt/pywaypoint/bin/python3", "-c", code).split()

    assert tuple(map(int, found)) >= (3, 5)


def test_the_hot_modules_are_compiled(buildah: Buildah, container: str) -> None:
    compiled = run(buildah, container, "find", "/opt/pywaypoint", "-path", "*/pywaypoint/*.so").split()

    assert (len(compiled) > 30) == (os.environ.get("TWIN", "1") == "1")


def test_a_waypoint_runs_from_the_image_until_it_is_told_to_stop(
    buildah: Buildah, container: str, mounted: Path
) -> None:
    ip = address()
    (mounted / "mesh.yaml").write_text(manifests(waypoint=ip, vip=address(), pods={"app-1": address()}))
    pki = MeshPki(mounted / "pki")
    chain = pki.write(pki.identity("default", "waypoint"))
    flags = {
        "--resources": mounted / "mesh.yaml",
        "--gateway": "default/waypoint",
        "--certificate": chain,
        "--private-key": chain.with_suffix(".key"),
        "--trust-bundle": pki.bundle_path,
        "--listen": f"{ip}:15008",
    }

    said = serve(buildah, container, mounted, "waypoint", ip, flags)

    assert f"the waypoint of Gateway default/waypoint accepts HBONE on {ip}:15008" in said


def test_a_ztunnel_runs_from_the_image_until_it_is_told_to_stop(
    buildah: Buildah, container: str, mounted: Path
) -> None:
    ip = address()
    (mounted / "pod.yaml").write_text(POD.format(ip=ip))
    pki = MeshPki(mounted / "pki")
    pki.write(pki.identity("default", "client"))
    flags = {
        "--resources": mounted / "pod.yaml",
        "--node": "here",
        "--certificates": mounted / "pki",
        "--trust-bundle": pki.bundle_path,
    }

    serve(buildah, container, mounted, "ztunnel", address(), flags)


def serve(buildah: Buildah, container: str, mounted: Path, program: str, ip: str, flags: dict[str, object]) -> str:
    """Runs a program until it is ready, then tells it to stop, which it must do in order; what it said."""
    for file in mounted.rglob("*"):
        os.chown(file, USER, USER)
    operators = {"--metrics": f"{ip}:15020", "--readiness": f"{ip}:15021", "--admin": f"{ip}:15000"}
    arguments = [str(word) for flag in (flags | operators).items() for word in flag]
    command = buildah.run_command(
        container, ["env", "DRAIN_DELAY_SECONDS=0", program, "run", *arguments], mounted=mounted
    )
    log = mounted.parent / f"{program}.log"
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            until_ready(f"http://{ip}:15021/healthz/ready", process, log)
            with urllib.request.urlopen(f"http://{ip}:15000/quitquitquit", data=b"", timeout=10):
                pass
            assert process.wait(STOP_SECONDS) == 0, log.read_text()
        finally:
            process.kill()
    return log.read_text()


def until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
