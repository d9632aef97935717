"""`waypoint mesh`: run a mesh on this machine, and send requests through it."""

import os
import sys
from pathlib import Path

import click

from l4.command_line import EXISTING, Address, AddressType
from waypoint.commands.mesh_running import call, exec_, load, logs, status
from waypoint.commands.parameters import FILE, FOLDER

_NEEDS_LINUX = (
    "the laptop mesh needs Linux, where all of 127.0.0.0/8 is available without root; on this system, analyze, "
    "compile, explain --resources and replay work"
)


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
    if sys.platform != "linux":
        raise click.ClickException(_NEEDS_LINUX)
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


for command in (status, logs, exec_, call, load):
    mesh.add_command(command)
