"""The subcommand `waypoint console`."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from l4.asking.options import run, target
from l4.command_line import Address, AddressType

if TYPE_CHECKING:
    from l4.asking.reach import Target
    from waypoint.console.server import Asked


@click.command()
@target("waypoint")
@click.option(
    "--listen",
    type=AddressType(),
    default="127.0.0.1:9071",
    show_default=True,
    help="Where the page is, for a browser.",
)
@click.option("--ztunnels/--no-ztunnels", default=True, show_default=True, help="Ask the ztunnels, too.")
def console(target: "Target", listen: Address, ztunnels: bool) -> None:
    """Serve the console for running waypoints and ztunnels, until Ctrl-C: a page that shows what they do now.

    \b
    waypoint console -n NAMESPACE deploy/waypoint

    It asks the pods that run when it starts. The laptop mesh has a console of its own.
    """
    run(_serve(target, listen, ztunnels))


async def _serve(target: "Target", listen: Address, with_ztunnels: bool) -> None:
    import asyncio

    from l4.net.listener import CannotListen
    from waypoint.console.server import Console

    async with AsyncExitStack() as stack:
        asked = await _asked(target, with_ztunnels, stack)
        console = Console(lambda: asked)
        try:
            host, port = await console.start(listen)
        except CannotListen as error:
            raise click.ClickException(f"{error}; choose another with --listen") from None
        stack.push_async_callback(console.close)
        click.echo(f"http://{host}:{port}/ shows {', '.join(it.name for it in asked)}; Ctrl-C ends it")
        await asyncio.Event().wait()


async def _asked(target: "Target", with_ztunnels: bool, stack: AsyncExitStack) -> "list[Asked]":
    """Return the programs that the target means. Without ztunnels if they cannot be asked."""
    import asyncio

    from l4.asking.admin import CannotAsk
    from l4.asking.reach import HOME, Target, reached
    from waypoint.console.server import Asked

    admins = await stack.enter_async_context(reached(target))
    if with_ztunnels and target.admin is None:
        namespace = HOME if target.is_of_cluster else ""
        beside = Target("ztunnel", namespace=namespace, kubeconfig=target.kubeconfig, context=target.context)
        try:
            names = {it.name for it in admins}
            admins = [*admins, *(it for it in await stack.enter_async_context(reached(beside)) if it.name not in names)]
        except CannotAsk as error:
            click.echo(f"without ztunnels: {error}", err=True)
    statuses = await asyncio.gather(*(it.json("/status") for it in admins))
    return [
        Asked(admin.name, status["program"], status.get("gateway", ""), admin)
        for admin, status in zip(admins, statuses, strict=True)
    ]
