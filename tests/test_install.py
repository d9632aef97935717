"""The files of an installation, and both programs run from it, in a venv, beside other packages."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.laptop import mesh_up

ROOT = Path(__file__).parents[1]
OTHERS = ("l4", "policies", "waypoint")

MESH = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {istio.io/use-waypoint: waypoint}}
spec: {ports: [{name: http, port: 8080}], selector: {app: web}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{containerPort: 8080}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
"""


@dataclass(frozen=True, slots=True)
class Venv:
    """It finds our dependencies where the tests have them, after its own packages."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Venv":
        venv.create(folder)
        made = cls(folder)
        (made.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        return made

    @property
    def packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def pip_install(self, *args: str) -> None:
        python = str(self.folder / "bin" / "python")
        _pip("--python", python, "install", "--no-deps", "--no-build-isolation", "--force-reinstall", *args)

    def run(self, program: str, *args: str, **environment: str) -> str:
        command = [str(self.folder / "bin" / program), *args]
        environment = {"PATH": os.environ["PATH"], **environment}
        answer = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


def _pip(*args: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *args]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert answer.returncode == 0, answer.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(ROOT))
    (made,) = folder.glob("pywaypoint-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Venv:
    made = Venv.make(tmp_path_factory.mktemp("venv"))
    made.pip_install(str(wheel))
    return made


@pytest.fixture
def others(tmp_path: Path) -> str:
    """A folder for PYTHONPATH, with packages of others that have the names of ours and can't be imported."""
    folder = tmp_path / "others"
    folder.mkdir()
    for name in OTHERS:
        (folder / f"{name}.py").write_text(f"raise ImportError('{name} of somebody else was taken for ours')")
    return str(folder)


def _top_level(names: Sequence[str]) -> set[str]:
    return {it.split("/")[0] for it in names if ".dist-info/" not in it and ".data/" not in it}


def test_the_wheel_has_one_name_at_the_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert _top_level(names) == {"pywaypoint"}
    assert {it.split(".data/")[1].split("/")[0] for it in names if ".data/" in it} == {"data"}
    assert {it.split("/")[1] for it in names if it.startswith("pywaypoint/")} == {"__init__.py", *OTHERS}


def test_the_console_is_installed_with_all_its_files_and_the_licenses_of_others(wheel: Path) -> None:
    assets = ROOT / "waypoint" / "console" / "assets"
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())

    files = {f"pywaypoint/{it.relative_to(ROOT)}" for it in assets.rglob("*") if it.is_file()}
    assert len(files) > 20
    assert files <= held
    assert any(it.endswith(".dist-info/licenses/waypoint/console/assets/vendor/dagre/LICENSE") for it in held)


COMPLETIONS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}


@pytest.mark.parametrize("shell", COMPLETIONS)
@pytest.mark.parametrize("program", ["waypoint", "ztunnel"])
def test_the_script_that_completes_a_program_lies_where_the_shell_looks(
    installed: Venv, shell: str, program: str
) -> None:
    script = installed.folder / COMPLETIONS[shell].format(program)

    assert script.read_text() == installed.run(program, "completion", shell).removesuffix("\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_an_installed_program(installed: Venv) -> None:
    script = installed.folder / COMPLETIONS["bash"].format("waypoint")
    ask = "COMP_WORDS=(waypoint sta); COMP_CWORD=1; _waypoint_completion waypoint; echo ${COMPREPLY[@]}"

    answer = subprocess.run(
        ["bash", "-c", f"source {script}; {ask}"],
        env={"PATH": f"{installed.folder / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert answer.stdout.split() == ["status"]


def test_the_metadata_says_what_somebody_who_installs_it_must_know(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (it for it in archive.namelist() if it.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
        licenses = [it for it in archive.namelist() if ".dist-info/licenses/" in it]

    assert "License-Expression: Apache-2.0 AND MIT" in metadata
    assert "Project-URL: Homepage, " in metadata
    assert "Classifier: Programming Language :: Python :: 3.11" in metadata
    assert {it.rpartition("/")[2] for it in licenses} == {"LICENSE"}


@pytest.mark.parametrize("program", ["waypoint", "ztunnel"])
def test_a_program_finds_its_own_packages_among_others_of_the_same_names(
    installed: Venv, others: str, program: str
) -> None:
    said = installed.run(program, "--version", PYTHONPATH=others)

    assert said.startswith(f"{program} 0.")
    assert "usage: " in installed.run(program, "run", "--help", PYTHONPATH=others).lower()


@pytest.mark.parametrize("program", ["waypoint", "ztunnel"])
def test_a_program_names_the_version_of_the_wheel(installed: Venv, wheel: Path, program: str) -> None:
    version = wheel.name.split("-")[1]

    assert installed.run(program, "--version").startswith(f"{program} {version}, Python 3.")


@pytest.mark.timeout(300)  # one laptop mesh runs at a time: others may have to finish first
def test_what_the_installed_program_starts_is_installed_too(
    installed: Venv, others: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mesh.yaml").write_text(MESH)
    command = '["{python}", -m, http.server, "{port}", --bind, "{address}"]'
    (tmp_path / "programs.yaml").write_text(f"- {{image: web, command: {command}}}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", others)
    program = [str(installed.folder / "bin" / "waypoint")]

    with mesh_up(tmp_path, "mesh.yaml", "--programs", "programs.yaml", program=program) as mesh:
        started = [Path(f"/proc/{it}/cmdline").read_text() for it in mesh.children()]

    assert len([it for it in started if str(installed.packages / "pywaypoint") in it]) == 2  # ztunnel and waypoint


def test_what_is_generated_from_proto_files_is_installed(installed: Venv) -> None:
    packages = installed.packages / "pywaypoint"
    code = (
        f"import sys; sys.path.insert(0, {str(packages)!r}); from l4.identity import istio_ca; print(istio_ca.__file__)"
    )
    generated = sorted(it.relative_to(ROOT) for name in OTHERS for it in ROOT.glob(f"{name}/_proto/*_pb2.py"))

    assert installed.run("python", "-c", code).startswith(str(packages))
    assert generated
    assert all((packages / it).exists() for it in generated)


def test_an_editable_installation_runs_the_checkout(tmp_path: Path) -> None:
    editable = Venv.make(tmp_path)

    editable.pip_install("--editable", str(ROOT))

    assert editable.run("waypoint", "--version").startswith("waypoint 0.")
    assert editable.run("ztunnel", "--version").startswith("ztunnel 0.")
    assert _top_level(
        [it.name for it in editable.packages.iterdir() if it.is_dir() and "dist-info" not in it.name]
    ) <= {"__pycache__"}
