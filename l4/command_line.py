"""Command-line parts of both programs: flag style, the address type, and the flags for operator ports."""

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

Address = tuple[str, int]

EXISTING = click.Path(exists=True, path_type=Path)
flag = partial(click.option, show_envvar=True, show_default=True)


class AddressType(click.ParamType[Address]):
    name = "address:port"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
            self.fail(f"{value!r} is not of the form ADDRESS:PORT, such as 127.0.0.1:15008", param, ctx)
        return host.strip("[]"), int(port)


def version(command: F) -> F:
    """Add `--version` to a command."""

    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            from l4.version import version

            click.echo(f"{context.info_name} {version()}, Python {platform.python_version()}")
            context.exit()

    text = "Print the version and the commit it was built from, and exit."
    return click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show, help=text)(command)


def resources(command: F) -> F:
    return flag(
        "--resources",
        type=EXISTING,
        multiple=True,
        required=True,
        help="Kubernetes YAML: a file or folder. Repeatable; later ones take precedence.",
    )(command)


def operator_ports(command: F) -> F:
    """Add `--metrics`, `--readiness` and `--admin` to a command, in this order."""
    for name, default, text in (
        ("--admin", "127.0.0.1:15000", "Address for configuration dump, log level and quit."),
        ("--readiness", "0.0.0.0:15021", "Address for readiness (/healthz/ready)."),
        ("--metrics", "0.0.0.0:15020", "Address for Prometheus metrics."),
    ):
        command = flag(name, type=AddressType(), default=default, help=text)(command)
    return command
