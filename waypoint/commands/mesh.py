"""`waypoint mesh`: run a mesh on this machine, and send requests through it."""

import os
import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from l4.command_line import EXISTING, Address, AddressType
from waypoint.commands.parameters import FILE, FOLDER


def _complete_pods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the names of pods in the running mesh."""
    from l4.asking.laptop import folder
    from waypoint.mesh.running import names

    return [CompletionItem(name) for name in names(folder(os.environ)) if name.startswith(incomplete)]


@click.group()
def mesh() -> None:
    """Run a whole mesh on this machine, without root and without Kubernetes."""


@mesh.command()
@click.argument("manifests", metavar="MANIFEST...", type=EXISTING, nargs=-1, required=True)
@click.option("--programs", type=FILE, multiple=True, required=True, help="Mapping of images to programs; repeatable.")
@click.option(
    "--ingress",
    multiple=True,
    metavar="[NAMESPACE/]SERVICE[:PORT][=ADDRESS:PORT]",
    help="Address for browsers; by default, the first is 127.0.0.1:9080; repeatable.",
)
@click.option(
    "--run-directory",
    type=FOLDER,
    help="Folder for certificates, generated objects and logs; default: a temporary folder.",
)
@click.option(
    "--console",
    type=AddressType(),
    default="127.0.0.1:9070",
    show_default=True,
    help="Address of the console, a page that shows what the mesh does.",
)
@click.option("--access-log", is_flag=True, help="Print the waypoints' access logs instead of writing them to files.")
def up(
    manifests: tuple[Path, ...],
    programs: tuple[Path, ...],
    ingress: tuple[str, ...],
    run_directory: Path | None,
    console: Address,
    access_log: bool,
) -> None:
    """Run Deployments of MANIFEST... as programs, with a ztunnel and a waypoint per Gateway, until Ctrl-C.

    Edits of the manifests are followed live.
    """
    from waypoint.mesh.ingress import Ingress
    from waypoint.mesh.laptop import MeshOptions
    from waypoint.mesh.programs import InvalidPrograms, load_programs
    from waypoint.mesh.up import run_mesh

    try:
        options = MeshOptions(
            manifests=manifests,
            programs=load_programs(programs),
            ingresses=tuple(Ingress.parse(text, position) for position, text in enumerate(ingress)),
            run_directory=run_directory,
            shows_access_log=access_log,
            environment=dict(os.environ),
            console=console,
        )
    except (InvalidPrograms, ValueError) as error:
        raise click.UsageError(str(error)) from None
    sys.exit(run_mesh(options))


@mesh.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("workload", metavar="[NAMESPACE/]WORKLOAD", shell_complete=_complete_pods)
@click.argument("command", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(workload: str, command: tuple[str, ...]) -> None:
    """Run COMMAND as a pod of the running mesh, with its environment, its identity, and its view of Services.

    \b
    waypoint mesh exec productpage -- curl -s http://reviews:9080/reviews/0

    WORKLOAD is a pod, its owner (such as a Deployment), or a Service that selects it. Names of Services in the
    arguments are replaced by the addresses at which the pod calls them.
    """
    from l4.asking.laptop import folder
    from waypoint.mesh.call import CannotCall, execute
    from waypoint.mesh.running import NotRunning, find

    try:
        execute(find(folder(os.environ), workload), command, os.environ)
    except (NotRunning, CannotCall) as error:
        raise click.ClickException(str(error)) from None


@mesh.command()
@click.argument("target", metavar="HOST[:PORT][/PATH]")
@click.option(
    "--as",
    "workload",
    required=True,
    metavar="[NAMESPACE/]WORKLOAD",
    shell_complete=_complete_pods,
    help="The client: a pod, its owner, or a Service that selects it.",
)
@click.option("-X", "--method", default="GET", show_default=True)
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="Repeatable.")
@click.option("-d", "--data", default="", help="The request's body.")
@click.option("-n", "--requests", "count", type=click.IntRange(1, 100_000), default=1, show_default=True)
@click.option("-c", "--at-once", type=click.IntRange(1, 256), default=1, show_default=True, help="Concurrent requests.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def call(
    target: str,
    workload: str,
    method: str,
    headers: tuple[str, ...],
    data: str,
    count: int,
    at_once: int,
    output: str,
) -> None:
    """Send a request through the running mesh as one of its pods, and show the response.

    \b
    waypoint mesh call reviews:9080/reviews/0 --as productpage
    waypoint mesh call ratings:9080/ratings/0 --as productpage -n 20 -c 8

    A single response is shown in full; several are counted by status. Exit status: 0 all requests got responses, 1 some
    did not, 2 wrong usage.
    """
    import asyncio

    from l4.asking.laptop import folder
    from waypoint.mesh import call as calls
    from waypoint.mesh.running import NotRunning, find

    for header in headers:
        if not header.partition(":")[0].strip() or ":" not in header:
            raise click.UsageError(f"{header!r} is not of the form NAME: VALUE")
    fields = tuple((name.strip(), value.strip()) for name, _, value in (header.partition(":") for header in headers))
    request = calls.Request(method, target, fields, data.encode())
    try:
        answers = asyncio.run(calls.call(find(folder(os.environ), workload), request, count, at_once))
    except (NotRunning, calls.CannotCall) as error:
        raise click.ClickException(str(error)) from None
    click.echo(calls.as_json(answers) if output == "json" else calls.as_text(answers))
    sys.exit(0 if all(answer.status for answer in answers) else 1)
