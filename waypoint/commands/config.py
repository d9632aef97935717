"""The subcommand `waypoint config diff`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from l4.asking.options import output, run, target
from l4.asking.output import written
from l4.command_line import EXISTING, Address, AddressType

if TYPE_CHECKING:
    from l4.asking.admin import Admin
    from l4.asking.reach import Target


@click.group()
def config() -> None:
    """Compare what a waypoint has with what others have."""


@config.command()
@target("waypoint")
@click.option("--resources", type=EXISTING, multiple=True, help="Compare with these files or folders; repeatable.")
@click.option("--kubernetes", is_flag=True, help="Compare with the objects of the API server.")
@click.option("--against", type=AddressType(), help="Compare with the waypoint that has this administration port.")
@output
def diff(target: "Target", resources: tuple[Path, ...], kubernetes: bool, against: Address | None, output: str) -> None:
    """Show what differs between a running waypoint and files, an API server, or another waypoint.

    \b
    waypoint config diff --resources manifests
    waypoint config diff -n shop deploy/waypoint --kubernetes
    waypoint config diff --admin 127.0.0.1:15000 --against 127.0.0.1:15001

    Lines with - are of the running waypoint only, lines with + of the other side only. Addresses and endpoints are not
    compared. Exit status: 0 nothing differs, 1 something does or a side could not be asked, 2 wrong usage.
    """
    from waypoint.ask.differing import as_text, differences

    if [bool(resources), kubernetes, against is not None].count(True) != 1:
        raise click.UsageError("use one of --resources, --kubernetes and --against for the other side")
    name, gateway, running = run(_running(target))
    if against is not None:
        other, place = run(_other(against)), f"of {against[0]}:{against[1]}"
    else:
        other, place = _compiled(target, resources, gateway)
    found = differences(running, other)
    if output == "table":
        click.echo(as_text(found, name, place) if found else f"nothing differs between {name} and what is {place}")
    else:
        click.echo(written([it.values for it in found], output))
    sys.exit(1 if found else 0)


async def _running(target: "Target") -> tuple[str, str, dict[str, Any]]:
    """Return the name of the running waypoint, that of its Gateway, and its configuration."""
    from l4.asking.reach import reached

    async with reached(target) as admins:  # all pods of a waypoint have one configuration
        admin = admins[0]
        status = await admin.json("/status")
        return admin.name, status.get("gateway", ""), await _dump(admin)


async def _other(address: Address) -> dict[str, Any]:
    from l4.asking.reach import Target, reached_one

    async with reached_one(Target("waypoint", admin=address)) as admin:
        return await _dump(admin)


async def _dump(admin: "Admin") -> dict[str, Any]:
    from l4.asking.admin import CannotAsk

    found: dict[str, Any] = await admin.json("/config_dump")
    if "destinations" not in found:
        raise CannotAsk(f"{admin.name} is no waypoint: check that it is the administration port of one")
    return found


def _compiled(target: "Target", resources: tuple[Path, ...], gateway: str) -> tuple[dict[str, Any], str]:
    """Raises click.ClickException."""
    from l4.config.source import CannotRead
    from l4.kubernetes.options import KubernetesOptions
    from waypoint.ask.load import load
    from waypoint.commands.parameters import settings
    from waypoint.config.dump import dump

    namespace, _, name = gateway.partition("/")
    source = resources or KubernetesOptions(target.kubeconfig, target.context)
    try:
        loaded = load(source, (namespace, name), settings())
    except CannotRead as error:
        raise click.ClickException(str(error)) from None
    snapshot = loaded.snapshots[(namespace, name)]
    if not snapshot.has_gateway:
        raise click.ClickException(f"there is no Gateway {gateway} {loaded.place}")
    return dump(snapshot), loaded.place
