import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from l4.asking.output import FORMATS
from l4.ztunnel.cli import cli as ztunnel
from waypoint.cli import cli


def waypoint(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "waypoint.cli", *args], env=environment, capture_output=True, text=True, timeout=30
    )


def test_help_answers_at_once() -> None:
    waypoint("--help")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    answer = waypoint("--help")

    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert answer.returncode == 0
    assert "mesh" in answer.stdout
    assert "run" in answer.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3  # of CPU: others work here, too


HEAVY = ("aiohttp", "asyncio", "cryptography", "grpc", "msgspec", "rich", "yaml")


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command and of each group."""
    yield path
    for name, command in group.commands.items():
        yield from commands(command, (*path, name)) if isinstance(command, click.Group) else ((*path, name),)


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = f"""
import sys
from click.testing import CliRunner
before = set(sys.modules)
from waypoint.cli import cli
for path in {list(commands())}:
    answer = CliRunner().invoke(cli, [*path, "--help"])
    print(path, answer.exit_code, [name for name in {HEAVY} if name in sys.modules.keys() - before])
"""

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert answer.stdout.splitlines() == [f"{path} 0 []" for path in commands()]


def test_the_version_names_program_and_python() -> None:
    answer = waypoint("--version", PATH=os.environ["PATH"])

    assert answer.returncode == 0
    assert re.fullmatch(r"waypoint \d+\.\d+\.\d+(\+g[0-9a-f]{7,}(\.dirty)?)?, Python 3\.\d+\.\d+\n", answer.stdout)


def test_every_flag_of_run_names_its_environment_variable() -> None:
    text = " ".join(waypoint("run", "--help").stdout.split())

    for flag in (
        "resources",
        "gateway",
        "certificate",
        "private-key",
        "trust-bundle",
        "ca-address",
        "listen",
        "metrics",
        "admin",
    ):
        assert f"--{flag}" in text
        assert f"env var: WAYPOINT_{flag.upper().replace('-', '_')}" in text


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ((), "Missing option '--gateway'"),
        (("--gateway", "a/b", "--ca-address", "a:1"), "use either --resources for files or --kubernetes"),
        (("--gateway", "a/b", "--ca-address", "a:1", "--resources", "/", "--kubernetes"), "use either --resources"),
        (("--resources", "/nowhere"), "'/nowhere' does not exist"),
        (("--resources", "/", "--gateway", "waypoint"), "'waypoint' is not of the form NAMESPACE/NAME"),
        (("--resources", "/", "--gateway", "a/b"), "or --ca-address for an authority"),
        (("--resources", "/", "--gateway", "a/b", "--listen", "15008"), "'15008' is not of the form ADDRESS:PORT"),
        (
            ("--resources", "/", "--gateway", "a/b", "--listen", "127.0.0.1:١٥٠٠٨"),
            "'127.0.0.1:١٥٠٠٨' is not of the form ADDRESS:PORT",
        ),
    ],
)
def test_a_wrong_flag_is_a_sentence_and_exit_status_2(args: tuple[str, ...], sentence: str) -> None:
    answer = waypoint("run", *args)

    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert answer.stdout == ""


def test_a_flag_may_come_from_the_environment() -> None:
    answer = waypoint("run", "--resources", "/", WAYPOINT_GATEWAY="nonsense")

    assert "'nonsense' is not of the form NAMESPACE/NAME" in answer.stderr


def test_mesh_up_refuses_a_bad_mapping_and_a_bad_ingress_as_wrong_usage(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text("- image: a")
    good.write_text("[]")

    mapping = waypoint("mesh", "up", str(tmp_path), "--programs", str(bad))
    ingress = waypoint("mesh", "up", str(tmp_path), "--programs", str(good), "--ingress", "front:http")

    assert (mapping.returncode, ingress.returncode) == (2, 2)
    assert "missing required field `command`" in mapping.stderr
    assert "instead of a port from 1 to 65535" in ingress.stderr


NO_VALUES = {
    *(("waypoint", it) for it in ("run", "console", "bug-report", "completion")),
    *(("waypoint", "mesh", it) for it in ("up", "logs", "exec")),
    ("waypoint", "controller", "run"),
    *(("ztunnel", *it) for it in (("run",), ("agent", "run"), ("completion",))),
}
"""Commands that run something, write files or print text of others."""


def every_command(
    name: str, command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for sub, its in command.commands.items():
            yield from every_command(sub, its, (*path, name))
    else:
        yield (*path, name), command


@pytest.mark.parametrize("program", ["waypoint", "ztunnel"])
def test_every_command_that_shows_values_shows_them_as_a_table_json_and_yaml(program: str) -> None:
    its = every_command(program, cli if program == "waypoint" else ztunnel)
    lacking = set()
    for path, command in its:
        formats = [
            set(it.type.choices) for it in command.params if isinstance(it.type, click.Choice) and it.name == "output"
        ]
        if not any(it >= set(FORMATS) for it in formats):
            lacking.add(path)

    assert lacking == {it for it in NO_VALUES if it[0] == program}
