"""The subcommand `waypoint drain`."""

from typing import TYPE_CHECKING

import click

from l4.asking.options import run, target

if TYPE_CHECKING:
    from l4.asking.reach import Target


@click.command()
@target("waypoint")
@click.option("--undo", is_flag=True, help="Take a drain back: be ready again.")
@click.option("--stop", is_flag=True, help="Drain as SIGTERM does, and end the process.")
def drain(target: "Target", undo: bool, stop: bool) -> None:
    """Let clients leave a running waypoint: it is no longer ready, and connected clients are told to reconnect.

    Requests are still served. Readiness (/healthz/ready) says since when. With --stop the process ends once its
    requests have ended.
    """
    if undo and stop:
        raise click.UsageError("--undo and --stop exclude each other")
    click.echo(run(_drain(target, "/quitquitquit" if stop else "/drain", {"on": "false"} if undo else {})))


async def _drain(target: "Target", path: str, query: dict[str, str]) -> str:
    from l4.asking.reach import reached

    async with reached(target) as admins:
        return "\n".join([f"{it.name}: {await it.post(path, query)}" for it in admins])
