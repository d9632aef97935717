"""What the command lines of both programs share: how a flag looks, what an address is, and the operators' flags."""

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
    """`--version` of a program."""

    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            from l4.version import version

            click.echo(f"{context.info_name} {version()}, Python {platform.python_version()}")
            context.exit()

    text = "Print the version, with the commit it was built from, and exit."
    return click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show, help=text)(command)


def resources(command: F) -> F:
    return flag(
        "--resources",
        type=EXISTING,
        multiple=True,
        required=True,
        help="Kubernetes YAML: a file or folder; repeatable, later ones win.",
    )(command)


def operator_ports(command: F) -> F:
    """`--metrics`, `--readiness` and `--admin`, in this order."""
    for name, default, text in (
        ("--admin", "127.0.0.1:15000", "Configuration dump, log level, quit."),
        ("--readiness", "0.0.0.0:15021", "/healthz/ready."),
        ("--metrics", "0.0.0.0:15020", "Prometheus metrics."),
    ):
        command = flag(name, type=AddressType(), default=default, help=text)(command)
    return command
