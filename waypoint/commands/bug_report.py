"""The subcommand `waypoint bug-report`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from l4.asking.options import run, target

if TYPE_CHECKING:
    from l4.asking.reach import Target


@click.command("bug-report")
@target("waypoint")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The archive; default: bug-report-TIME.tar.gz in this folder.",
)
def bug_report(target: "Target", path: Path | None) -> None:
    """Collect what a maintainer asks for in one archive, without secrets.

    \b
    waypoint bug-report
    waypoint bug-report -n shop deploy/waypoint

    It has versions, the state, configuration and metrics of waypoints and ztunnels, their logs, and the objects that
    they read. Of a cluster, it also has the logs of agents and controllers, and Events. Keys and Secrets are not read;
    values whose names sound like credentials are replaced. Access logs and requests are not in it. Look into it before
    you send it: names of services and hosts are in it.

    What cannot be collected is told, and is in failures.txt. Exit status: 0 written, 1 not written, 2 wrong usage.
    """
    from l4.asking import laptop
    from waypoint.commands import collecting
    from waypoint.commands.archive import Archive
    from waypoint.commands.collecting_pods import collect_pods

    archive = Archive()
    archive.add_values("machine.json", collecting.machine())
    run(collecting.collect_programs(archive, collecting.targets_of(target)))
    if target.is_of_cluster:
        run(collect_pods(archive, target))
        collecting.collect_objects(archive, target)
    elif target.admin is None:
        collecting.collect_laptop(archive, laptop.folder(target.environment))
    path = path or Path(f"bug-report-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz")
    try:
        archive.write(path)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from None
    for failure in archive.failures:
        click.echo(f"not collected: {failure}", err=True)
    click.echo(f"{path} is written: {len(archive.names)} files, {path.stat().st_size // 1024} KiB")
