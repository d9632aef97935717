"""The `waypoint` command: its subcommands are in `waypoint/commands`, grouped by what they do.

Each subcommand imports what it runs only when it runs, so that `--help` answers at once.

Exit status: 0 done, 1 it could not be done, 2 it was asked for in a wrong way.
"""

import click

from l4.command_line import version
from waypoint.commands.ask import analyze, compile_, explain, replay
from waypoint.commands.certificate import certificate
from waypoint.commands.mesh import mesh
from waypoint.commands.run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@version
def cli() -> None:
    """An L7 waypoint proxy for Istio ambient meshes."""


for command in (run, mesh, certificate, analyze, compile_, explain, replay):
    cli.add_command(command)


def main() -> None:
    cli(prog_name="waypoint")


if __name__ == "__main__":
    main()
