"""The subcommand `waypoint drain`."""

from typing import TYPE_CHECKING

import click

from l4.asking.common import post
from l4.asking.options import output, target

if TYPE_CHECKING:
    from l4.asking.reach import Target


@click.command()
@target("waypoint")
@click.option("--undo", is_flag=True, help="Take a drain back: be ready again.")
@click.option("--stop", is_flag=True, help="Drain as SIGTERM does, and end the process.")
@output
def drain(target: "Target", undo: bool, stop: bool, output: str) -> None:
    """Let clients leave a running waypoint: it is no longer ready, and connected clients are told to reconnect.

    Requests are still served. Readiness (/healthz/ready) says since when; --undo takes it back. With --stop the process
    ends once its requests have ended. Exit status: 0 done, 1 a waypoint gave no answer, 2 wrong usage.
    """
    if undo and stop:
        raise click.UsageError("--undo and --stop exclude each other")
    post(target, "/quitquitquit" if stop else "/drain", {"on": "false"} if undo else {}, output)
    if not undo and not stop:
        click.echo("`waypoint drain --undo` takes it back; `waypoint drain --stop` ends the process", err=True)
