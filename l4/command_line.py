"""Command-line parts of both programs: flag style, the address type, and the flags for operator ports."""

import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from l4.identity.options import AuthorityOptions
from l4.kubernetes.options import KubernetesOptions
from l4.xds.options import DiscoveryOptions

F = TypeVar("F", bound=Callable[..., Any])

Address = tuple[str, int]

EXISTING = click.Path(exists=True, path_type=Path)
flag = partial(click.option, show_envvar=True, show_default=True)
CA_ROOT = Path("/var/run/secrets/istio/root-cert.pem")
CA_TOKEN = Path("/var/run/secrets/tokens/istio-token")


class AddressType(click.ParamType[Address]):
    name = "address:port"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not host or "/" in host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
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


def api_server(command: F) -> F:
    """Add `--kubernetes`, `--kubeconfig` and `--context` to a command, for `server_from`."""
    text = "Context of the kubeconfig; the current one by default."
    command = flag("--context", default="", show_default=False, help=text)(command)
    command = flag("--kubeconfig", type=EXISTING, help="Kubeconfig of the API server, outside of a pod.")(command)
    return flag("--kubernetes", is_flag=True, help="Use the objects of an API server, in place of files.")(command)


def source(command: F) -> F:
    """Add `--resources`, `--kubernetes`, `--kubeconfig` and `--context` to a command, for `source_from`."""
    text = "Kubernetes YAML: a file or folder. Repeatable; later ones take precedence."
    return flag("--resources", type=EXISTING, multiple=True, help=text)(api_server(command))


def discovery(about: str) -> Callable[[F], F]:
    """Add `--discovery`, `--discovery-root` and `--discovery-token` to a command, for `discovery_from`. `about` is the
    help of the first."""
    path = click.Path(path_type=Path)

    def add(command: F) -> F:
        for name, kind, text in (
            ("--discovery-token", path, f"File with a service account token for that server.  [default: {CA_TOKEN}]"),
            ("--discovery-root", path, f"PEM file of the roots of that server's certificate.  [default: {CA_ROOT}]"),
            ("--discovery", AddressType(), about),
        ):
            command = flag(name, type=kind, help=text)(command)
        return command

    return add


def discovery_from(
    address: Address | None, root: Path | None, token: Path | None, is_on_demand: bool = False
) -> DiscoveryOptions | None:
    """Return the discovery server, or None if no flag names one. Raises click.UsageError."""
    if address is not None:
        return DiscoveryOptions(authority_text(address), root or CA_ROOT, token or CA_TOKEN, is_on_demand)
    for name, value in (("--discovery-root", root), ("--discovery-token", token)):
        if value is not None:
            raise click.UsageError(f"{name} is for a discovery server: give --discovery")
    return None


def server_from(kubernetes: bool, kubeconfig: Path | None, context: str) -> KubernetesOptions | None:
    """Return the API server, or None if no flag names one."""
    is_server = kubernetes or kubeconfig is not None or bool(context)
    return KubernetesOptions(kubeconfig, context) if is_server else None


def source_from(
    files: tuple[Path, ...], kubernetes: bool, kubeconfig: Path | None, context: str, name: str = "--resources"
) -> tuple[Path, ...] | KubernetesOptions:
    """Return the files, or the API server. `name` is the parameter that names files.

    Raises click.UsageError if it is not one of both.
    """
    server = server_from(kubernetes, kubeconfig, context)
    if (server is not None) is bool(files):
        raise click.UsageError(f"use either {name} for files or --kubernetes for an API server")
    return server or files


def authority(command: F) -> F:
    """Add `--ca-address`, `--ca-root`, `--ca-token` and `--cluster-id` to a command, for `certificates_from`."""
    path = click.Path(path_type=Path)
    for name, kind, text in (
        ("--cluster-id", str, "The cluster's name, for the authority.  [default: CLUSTER_ID, see docs/settings.md]"),
        ("--ca-token", path, f"File with a service account token for the authority.  [default: {CA_TOKEN}]"),
        ("--ca-root", path, f"PEM file of the roots of the authority's own certificate.  [default: {CA_ROOT}]"),
        (
            "--ca-address",
            AddressType(),
            "Authority that signs certificates, in place of files; it answers Istio's call.",
        ),
    ):
        command = flag(name, type=kind, help=text)(command)
    return command


def authority_text(address: Address) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def certificates_from(
    files: Mapping[str, Path | None],
    ca_address: Address | None,
    ca_root: Path | None,
    ca_token: Path | None,
    cluster_id: str | None,
) -> AuthorityOptions | None:
    """Return the authority, or None if all `files` are given. Raises click.UsageError if it is not one of both."""
    *others, last = files
    every = f"{', '.join(others)} and {last}"
    given = [name for name, path in files.items() if path is not None]
    missing = [name for name, path in files.items() if path is None]
    if ca_address is not None:
        if given:
            raise click.UsageError(
                f"{given[0]} and --ca-address exclude each other: certificates come from files ({every}) or from an "
                "authority"
            )
        return AuthorityOptions(authority_text(ca_address), ca_root or CA_ROOT, ca_token or CA_TOKEN, cluster_id or "")
    if missing:
        what = f"{' and '.join(missing)} missing" if given else "no certificates"
        raise click.UsageError(f"{what}: give {every} for files, or --ca-address for an authority")
    for name, value in (("--ca-root", ca_root), ("--ca-token", ca_token), ("--cluster-id", cluster_id)):
        if value is not None:
            raise click.UsageError(f"{name} is for an authority, but certificates come from files: give --ca-address")
    return None


def operator_ports(command: F) -> F:
    """Add `--metrics`, `--readiness` and `--admin` to a command, in this order."""
    for name, default, text in (
        ("--admin", "127.0.0.1:15000", "Address for configuration dump, log level and quit."),
        ("--readiness", "0.0.0.0:15021", "Address for readiness (/healthz/ready)."),
        ("--metrics", "0.0.0.0:15020", "Address for Prometheus metrics."),
    ):
        command = flag(name, type=AddressType(), default=default, help=text)(command)
    return command
