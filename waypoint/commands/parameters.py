"""Parameter types of several subcommands."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from l4.command_line import server_from
from l4.net.cpus import usable_cpus
from waypoint.process.options import GatewayName

if TYPE_CHECKING:
    from l4.config.settings import Settings

MAX_WORKERS = 256
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
MANIFESTS = click.Path(exists=True, allow_dash=True, path_type=Path)


class GatewayType(click.ParamType[GatewayName]):
    name = "namespace/name"

    def convert(
        self, value: str | GatewayName, param: click.Parameter | None, ctx: click.Context | None
    ) -> GatewayName:
        if isinstance(value, GatewayName):
            return value
        namespace, _, name = value.partition("/")
        if not namespace or not name or "/" in name:
            self.fail(f"{value!r} is not of the form NAMESPACE/NAME", param, ctx)
        return GatewayName(namespace, name)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the Gateways of the files or the API server that the command line names so far."""
        from waypoint.ask.load import gateways_in

        its = ctx.params
        server = server_from(its.get("kubernetes", False), its.get("kubeconfig"), its.get("context") or "")
        names = gateways_in(server or its.get("resources") or its.get("paths") or ())
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def settings() -> "Settings":
    """Return the waypoint's settings from the environment. Raises click.UsageError."""
    from l4.config.settings import InvalidSetting, Settings
    from waypoint.settings import SECTIONS

    try:
        return Settings.from_environment(os.environ, SECTIONS)
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from None


class WorkersType(click.ParamType[str]):
    """A number of workers, or auto, as `workers_here` or another machine's waypoint understands it."""

    name = "number|auto"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != "auto" and (not value.isdecimal() or not 1 <= int(value) <= MAX_WORKERS):
            self.fail(f"{value!r} is neither auto nor a number from 1 to {MAX_WORKERS}", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem("auto")] if "auto".startswith(incomplete) else []


def workers_here(text: str) -> int:
    """Return the number of workers on this machine: auto is one for each CPU that this process may use."""
    return usable_cpus() if text == "auto" else int(text)
