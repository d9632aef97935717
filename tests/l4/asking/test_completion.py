"""Completion in a real bash, with the script that the program prints."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from l4.asking import laptop
from l4.asking.laptop import Proxy
from l4.ztunnel.cli import cli as ztunnel
from waypoint.cli import cli as waypoint
from waypoint.mesh.running import only_one


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("bash", "data/bash-completion/completions/waypoint"),
        ("zsh", "data/zsh/site-functions/_waypoint"),
        ("fish", "config/fish/completions/waypoint.fish"),
    ],
)
def test_the_script_is_installed_where_the_shell_looks(tmp_path: Path, shell: str, path: str) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}

    printed = CliRunner().invoke(waypoint, ["completion", shell])
    result = CliRunner().invoke(waypoint, ["completion", shell, "--install"], env=environment)

    assert result.exit_code == 0, result.output
    assert (tmp_path / path).read_text() == printed.output.removesuffix("\n")
    assert "_WAYPOINT_COMPLETE" in printed.output
    assert result.output.startswith(f"{tmp_path / path} is written")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = CliRunner().invoke(
        ztunnel, ["completion", "bash", "--install"], env={"XDG_DATA_HOME": str(tmp_path / "file")}
    )

    assert result.exit_code == 1
    assert "cannot be written: " in result.output


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [(["sta"], "status"), (["routes", "default/w"], "default/waypoint"), (["tap", "--desti"], "--destination")],
)
def test_bash_completes_commands_options_and_proxies(tmp_path: Path, words: list[str], found: str) -> None:
    place = laptop.folder({"XDG_RUNTIME_DIR": str(tmp_path)})
    program = tmp_path / "waypoint"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from waypoint.cli import main; main()' \"$@\"\n")
    program.chmod(0o755)
    script = CliRunner().invoke(waypoint, ["completion", "bash"]).output
    typed = " ".join(f"'{it}'" for it in ("waypoint", *words))
    ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _waypoint_completion waypoint; echo ${{COMPREPLY[@]}}"

    with only_one(place):
        laptop.record(place, [Proxy("waypoint", "default/waypoint", "127.0.0.1:1", "", "")])
        answer = subprocess.run(
            ["bash", "-c", f"{script}\n{ask}"],
            env={
                "XDG_RUNTIME_DIR": str(tmp_path),
                "PATH": f"{tmp_path}:/usr/bin:/bin",
                "PYTHONPATH": ":".join(sys.path),
            },
            capture_output=True,
            text=True,
            timeout=30,
        )

    assert answer.stdout.split() == [found], answer.stderr
