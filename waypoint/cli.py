"""The `waypoint` command. Its subcommands are in `waypoint/commands`, grouped by purpose.

A subcommand imports what it runs only when it runs, so that `--help` is fast. Exit status: 0 success, 1 failure, 2
wrong usage.
"""

import click

from l4.asking.common import log_level_of, status_of
from l4.asking.completion import completion_of
from l4.command_line import version
from waypoint.commands.ask import analyze, compile_, explain, replay
from waypoint.commands.bug_report import bug_report
from waypoint.commands.certificate import certificate
from waypoint.commands.config import config
from waypoint.commands.console import console
from waypoint.commands.controller import controller
from waypoint.commands.drain import drain
from waypoint.commands.live import tap, top
from waypoint.commands.mesh import mesh
from waypoint.commands.run import run
from waypoint.commands.tables import COMMANDS as TABLES


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@version
def cli() -> None:
    """An L7 waypoint proxy for Istio ambient meshes."""


ASKING = (
    status_of("waypoint"),
    *TABLES,
    tap,
    top,
    console,
    log_level_of("waypoint"),
    drain,
    config,
    bug_report,
    completion_of("waypoint"),
)
for command in (run, controller, mesh, certificate, analyze, compile_, explain, replay, *ASKING):
    cli.add_command(command)


def main() -> None:
    cli(prog_name="waypoint")


if __name__ == "__main__":
    main()
